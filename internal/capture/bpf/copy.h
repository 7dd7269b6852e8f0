/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Copies a bio into the ring. */
#pragma once

#include "bits.h"

/* How many steps a bio may take: far above what a bio can hold. */
#define MAX_STEPS (1 << 20)
#define STAGE 4096

/* on_queue's working state. bpf_loop callbacks that change state on the stack do not pass newer verifiers. */
struct work {
	u64 vec;    /* address of the current segment */
	u64 sector; /* where the next record's data goes */
	u64 time;
	u32 left;  /* bytes of the bio not yet taken */
	u32 done;  /* bytes of the current segment already taken */
	u32 fill;  /* bytes in stage, always less than STAGE between steps */
	u16 disk;
	u8 flags; /* of the next record */
	u8 failed;
	u8 stage[2 * STAGE];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct work);
} work SEC(".maps");

inline_always struct work *the_work(void)
{
	u32 zero = 0;
	return bpf_map_lookup_elem(&work, &zero);
}

/* Fills a record's head. The drop counter is read here, after the ring was reserved. */
inline_always void fill_head(struct record *r, struct work *w, u64 bytes, u8 op, u8 last)
{
	struct control *c = the_control();
	r->sector = w->sector;
	r->bytes = bytes;
	r->time = w->time;
	r->drops = c ? *(volatile u64 *)&c->drops : 0;
	r->cpu = bpf_get_smp_processor_id();
	r->disk = w->disk;
	r->op = op;
	r->flags = w->flags | (last ? FLAG_LAST : 0);
	w->flags = 0;
}

/* Puts size bytes at addr into one record that stands for bytes of them. */
#define DEFINE_EMIT(size)                                                                              \
	inline_always int emit_##size(struct work *w, u64 addr, u32 bytes, u8 last)                     \
	{                                                                                               \
		struct record *r = bpf_ringbuf_reserve(&ring, sizeof(struct record) + size, 0);         \
		if (!r)                                                                                 \
			return -1;                                                                      \
		if (bpf_probe_read_kernel(r->data, size, (void *)addr)) {                               \
			bpf_ringbuf_discard(r, BPF_RB_NO_WAKEUP);                                       \
			return -1;                                                                      \
		}                                                                                       \
		fill_head(r, w, bytes, REQ_OP_WRITE, last);                                             \
		bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);                                                \
		w->sector += bytes >> 9;                                                                \
		return 0;                                                                               \
	}

DEFINE_EMIT(512)
DEFINE_EMIT(1024)
DEFINE_EMIT(2048)
DEFINE_EMIT(4096)
DEFINE_EMIT(16384)
DEFINE_EMIT(65536)

/* Takes a piece of at least a sector that is contiguous in memory; returns how much, 0 for failure. */
#define TRY_EMIT(size)                                                             \
	if (n >= size)                                                             \
	return emit_##size(w, addr, size, w->left == size) ? 0 : size

inline_always u32 take(struct work *w, u64 addr, u32 n)
{
	TRY_EMIT(65536);
	TRY_EMIT(16384);
	TRY_EMIT(4096);
	TRY_EMIT(2048);
	TRY_EMIT(1024);
	TRY_EMIT(512);
	return 0;
}

/* Takes a piece of any length by way of the stage: some drivers accept buffers that are not aligned to sectors. */
inline_always u32 take_staged(struct work *w, u64 addr, u32 n)
{
	u32 fill = w->fill;
	if (fill >= STAGE)
		return 0;
	u32 room = STAGE - fill;
	if (n > room)
		n = room;
	opaque(n);
	if (n > STAGE)
		return 0;
	opaque(fill);
	fill &= STAGE - 1;
	if (bpf_probe_read_kernel(w->stage + fill, n, (void *)addr))
		return 0;
	w->fill = fill += n;
	u8 last = w->left == n;
	if (fill == STAGE || last) {
		w->fill = 0;
		if (emit_4096(w, (u64)w->stage, fill, last))
			return 0;
	}
	return n;
}

static long step(u32 i, void *unused)
{
	struct work *w = the_work();
	if (!w || !w->left)
		return 1;
	struct segment v;
	if (bpf_probe_read_kernel(&v, sizeof(v), (void *)w->vec))
		goto fail;
	u32 n = v.bv_len - w->done;
	if (n > w->left)
		n = w->left;
	u64 frame = (v.bv_page - vmemmap) / type_size(struct page);
	u64 addr = page_offset + (frame << 12) + v.bv_offset + w->done;
	u32 took;
	if (w->fill || n < 512)
		took = take_staged(w, addr, n);
	else
		took = take(w, addr, n);
	if (!took)
		goto fail;
	w->left -= took;
	w->done += took;
	if (w->done >= v.bv_len) {
		w->vec += sizeof(v);
		w->done = 0;
	}
	return 0;
fail:
	w->failed = 1;
	return 1;
}

/* How many bytes of a bio's current segment are behind it. */
inline_always u32 done_of(struct bio *bio)
{
	if (field_exists(bio->bi_iter.bi_bvec_done))
		return bio->bi_iter.bi_bvec_done;
	return ((struct bvec_iter___renamed *)&bio->bi_iter)->bi_offset;
}

/* Puts a bio's pages into the ring; not 0 if not all of it got there. */
inline_always int emit_data(struct work *w, struct bio *bio)
{
	if (field_exists(bio->bi_crypt_context) && bio->bi_crypt_context)
		return -1; /* the pages hold plaintext, the disk will not */
	/* Not to copy half a bio into a ring that is about to be full. */
	if (bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) + w->left > ring_bytes)
		return -1;
	w->vec = (u64)bio->bi_io_vec + (u64)bio->bi_iter.bi_idx * sizeof(struct segment);
	w->done = done_of(bio);
	w->fill = 0;
	w->failed = 0;
	bpf_loop(MAX_STEPS, step, 0, 0);
	return w->failed || w->left;
}

/* Puts a record without data into the ring. */
inline_always int emit_range(struct work *w, u64 bytes, u8 op)
{
	struct record *r = bpf_ringbuf_reserve(&ring, sizeof(struct record), 0);
	if (!r)
		return -1;
	fill_head(r, w, bytes, op, 1);
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
	return 0;
}

inline_always u8 flags_of(u32 opf)
{
	u8 f = FLAG_FIRST;
	if (opf & (1u << enum_value(enum req_flag_bits, __REQ_FUA)))
		f |= FLAG_FUA;
	if (opf & (1u << enum_value(enum req_flag_bits, __REQ_PREFLUSH)))
		f |= FLAG_PREFLUSH;
	return f;
}

inline_always int emit(struct work *w, struct bio *bio, u8 op)
{
	switch (op) {
	case REQ_OP_WRITE:
		return emit_data(w, bio);
	case REQ_OP_DISCARD:
	case REQ_OP_SECURE_ERASE:
	case REQ_OP_WRITE_ZEROES:
		return emit_range(w, w->left, op);
	}
	return -1;
}
