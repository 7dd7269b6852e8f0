package capture

import _ "embed"

// The programs are built by Debian 12's clang 14. The build does not depend on where the checkout is.
//
//go:generate clang -O2 -g -target bpf -mcpu=v3 -D__TARGET_ARCH_x86 -Wall -Werror -fdebug-compilation-dir=. -c bpf/capture.bpf.c -o bpf/capture.bpf.o
//go:generate llvm-strip -g bpf/capture.bpf.o
//go:generate clang -O2 -g -target bpf -mcpu=v3 -D__TARGET_ARCH_x86 -Wall -Werror -fdebug-compilation-dir=. -c bpf/bitmap.bpf.c -o bpf/bitmap.bpf.o
//go:generate llvm-strip -g bpf/bitmap.bpf.o

//go:embed bpf/capture.bpf.o
var payloadObject []byte

//go:embed bpf/bitmap.bpf.o
var bitmapObject []byte
