package capture

import (
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"
)

// slowProgram notes in a map's first word that it has begun, in the second that it has ended, and takes its time between.
func slowProgram(t *testing.T) (*ebpf.Program, *ebpf.Map) {
	t.Helper()
	const (
		mostLoops = 8 << 20 // that the kernel lets bpf_loop make
		calls     = 16
	)
	words, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 16, MaxEntries: 1})
	require.NoError(t, err)
	t.Cleanup(func() { words.Close() })
	note := func(word int16) asm.Instructions {
		return asm.Instructions{
			asm.LoadMapValue(asm.R1, words.FD(), 0), asm.Mov.Imm(asm.R2, 1), asm.StoreMem(asm.R1, 8*word, asm.R2, asm.DWord),
		}
	}
	callback := asm.Instruction{OpCode: asm.LoadImmOp(asm.DWord), Dst: asm.R2, Src: asm.PseudoFunc, Constant: -1}.WithReference("nothing")
	u32 := &btf.Int{Name: "u32", Size: 4}
	typed := func(i asm.Instruction, name string, linkage btf.FuncLinkage, parameters ...btf.FuncParam) asm.Instruction {
		return btf.WithFuncMetadata(i.WithSymbol(name), &btf.Func{Name: name, Type: &btf.FuncProto{Return: u32, Params: parameters}, Linkage: linkage})
	}
	code := note(0)
	code[0] = typed(code[0], "slow", btf.GlobalFunc, btf.FuncParam{Name: "context", Type: u32})
	for range calls {
		code = append(code, asm.Mov.Imm(asm.R1, mostLoops), callback, asm.Mov.Imm(asm.R3, 0), asm.Mov.Imm(asm.R4, 0), asm.FnLoop.Call())
	}
	code = append(code, note(1)...)
	code = append(code, asm.Mov.Imm(asm.R0, 0), asm.Return())
	code = append(code, typed(asm.Mov.Imm(asm.R0, 0), "nothing", btf.StaticFunc, btf.FuncParam{Name: "i", Type: u32}, btf.FuncParam{Name: "unused", Type: u32}), asm.Return())
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.RawTracepoint, Instructions: code, License: "Dual MIT/GPL"})
	require.NoError(t, err)
	t.Cleanup(func() { program.Close() })
	return program, words
}

// It ends after a program that was running when it began.
func TestGracePeriod(t *testing.T) {
	needKernel(t)
	program, words := slowProgram(t)
	word := func(i int) uint64 {
		var now [2]uint64
		require.NoError(t, words.Lookup(uint32(0), &now))
		return now[i]
	}
	ran := make(chan error, 1)
	go func() {
		_, err := program.Run(&ebpf.RunOptions{})
		ran <- err
	}()
	t.Cleanup(func() { require.NoError(t, <-ran) })
	require.Eventually(t, func() bool { return word(0) == 1 }, time.Minute, time.Millisecond)
	require.NoError(t, gracePeriod())
	require.EqualValues(t, 1, word(1), "the program runs still")
}
