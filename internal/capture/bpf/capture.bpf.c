// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Captures every write to a set of disks, with its data, in the order of submission.
 *
 * on_queue runs when a bio enters the block layer, before it can reach the disk: it sets the dirty bits, then copies
 * the data into the ring. What cannot be copied is counted and remembered until it completes. on_issue sets bits a
 * second time, for a bio that on_queue missed. The completion programs mark blocks late whose content may have changed
 * after user space read them. All run with preemption off, so the records of one bio come from one CPU in a row.
 *
 * The kernel skips a program that an interrupt would start while it already runs on that CPU. For on_queue user space
 * counts that as drops. The completion programs are attached twice: while one is interrupted, its twin is
 * not running.
 */
#include "kernel.h"
#include "layout.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Set by the loader. */
const volatile u64 region_words = 0; /* words of one region of bits */
const volatile u64 ring_bytes = 0;
const volatile u64 vmemmap = 0;     /* the struct page of page frame 0 */
const volatile u64 page_offset = 0; /* where the kernel maps page frame 0 */

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

inline_always struct control *the_control(void)
{
	u32 zero = 0;
	return bpf_map_lookup_elem(&control, &zero);
}

inline_always struct work *the_work(void)
{
	u32 zero = 0;
	return bpf_map_lookup_elem(&work, &zero);
}

inline_always struct disk *disk_of(struct gendisk *g)
{
	u32 dev = (u32)g->major << 20 | (u32)g->first_minor;
	return bpf_map_lookup_elem(&disks, &dev);
}

/* Looking first keeps a hot word's cache line shared; user space never clears bits that a program may be setting. */
inline_always void mark_word(u64 word, u64 mask)
{
	u32 i = word;
	u64 *w = bpf_map_lookup_elem(&bits, &i);
	if (w && (*(volatile u64 *)w & mask) != mask)
		__sync_fetch_and_or(w, mask);
}

static long mark_whole_word(u32 i, u64 *first)
{
	mark_word(*first + i, ~0ull);
	return 0;
}

/* Sets the bits of all blocks that a range touches. word is where the disk's bits begin. */
static __attribute__((noinline)) int mark(u64 word, u32 shift, u64 sector, u64 bytes)
{
	u64 sectors = (bytes + 511) >> 9;
	if (!sectors)
		return 0;
	u64 first = sector >> ((shift - 9) & 63);
	u64 last = (sector + sectors - 1) >> ((shift - 9) & 63);
	u64 head = ~0ull << (first & 63), tail = ~0ull >> (63 - (last & 63));
	u64 begin = word + (first >> 6), end = word + (last >> 6);
	if (begin == end) {
		mark_word(begin, head & tail);
		return 0;
	}
	mark_word(begin, head);
	mark_word(end, tail);
	begin++;
	if (begin < end)
		bpf_loop(end - begin, mark_whole_word, &begin, 0);
	return 0;
}

inline_always u64 dirty_region(struct control *c)
{
	return (*(volatile u64 *)&c->current & 1) * region_words;
}

inline_always u64 late_region(void)
{
	return REGION_LATE * region_words;
}

/* A range beyond the disk's known end has no bits: only what lies before the end is marked. */
inline_always u64 bytes_inside(struct disk *d, u64 sector, u64 bytes)
{
	if (sector >= d->sectors)
		return 0;
	u64 room = (d->sectors - sector) << 9;
	return bytes < room ? bytes : room;
}

/*
 * Remembers a bio whose data is not in the ring. It is counted last: who sees the count sees the rest, and all of it is
 * done before the bio is submitted.
 */
inline_always void drop(struct control *c, struct bio *bio, struct disk *d, u64 sector, u32 bytes, u64 inside)
{
	u64 key = (u64)bio;
	struct dropped_bio b = {
		.word = d->word, .sector = sector, .bytes = inside, .left = {bytes, bytes}, .shift = d->shift,
	};
	if (bpf_map_update_elem(&dropped, &key, &b, BPF_NOEXIST) == 0) {
		__sync_fetch_and_add(&c->remembered, 1);
		__sync_fetch_and_add(&c->outstanding, 1);
	} else {
		struct dropped_bio *old = bpf_map_lookup_elem(&dropped, &key);
		if (old && old->done) {
			*old = b;
			__sync_fetch_and_add(&c->outstanding, 1);
		} else {
			__sync_fetch_and_add(&c->drain_wanted, 1);
		}
	}
	__sync_fetch_and_add(&c->drops, 1);
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

/* Puts a bio's pages into the ring; not 0 if not all of it got there. */
inline_always int emit_data(struct work *w, struct bio *bio)
{
	if (field_exists(bio->bi_crypt_context) && bio->bi_crypt_context)
		return -1; /* the pages hold plaintext, the disk will not */
	/* Not to copy half a bio into a ring that is about to be full. */
	if (bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) + w->left > ring_bytes)
		return -1;
	w->vec = (u64)bio->bi_io_vec + (u64)bio->bi_iter.bi_idx * sizeof(struct segment);
	w->done = bio->bi_iter.bi_bvec_done;
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

SEC("tp_btf/block_bio_queue")
int on_queue(u64 *ctx)
{
	struct bio *bio = (struct bio *)ctx[0];
	u32 opf = bio->bi_opf;
	u8 op = opf & REQ_OP_MASK;
	if (!(op & 1)) /* what changes a disk is odd */
		return 0;
	struct disk *d = disk_of(bio->bi_bdev->bd_disk);
	struct control *c = the_control();
	struct work *w = the_work();
	if (!d || !c || !w)
		return 0;
	u64 sector = bio->bi_iter.bi_sector;
	u32 bytes = bio->bi_iter.bi_size;
	w->sector = sector;
	w->left = bytes;
	w->disk = d->index;
	w->flags = flags_of(opf);
	w->time = bpf_ktime_get_ns();
	if (!bytes) {
		if (w->flags & FLAG_PREFLUSH)
			emit_range(w, 0, OP_FLUSH);
		return 0;
	}
	u64 inside = bytes_inside(d, sector, bytes);
	mark(dirty_region(c) + d->word, d->shift, sector, inside);
	if (op != REQ_OP_DISCARD) /* as the kernel counts writes */
		__sync_fetch_and_add(&d->written, bytes >> 9);
	if (inside < bytes || emit(w, bio, op))
		drop(c, bio, d, sector, bytes, inside);
	return 0;
}

SEC("tp_btf/block_rq_issue")
int on_issue(u64 *ctx)
{
	struct request *rq = (struct request *)ctx[0];
	if (!(rq->cmd_flags & 1))
		return 0;
	struct disk *d = disk_of(rq->q->disk);
	struct control *c = the_control();
	if (!d || !c)
		return 0;
	u64 sector = rq->__sector;
	mark(dirty_region(c) + d->word, d->shift, sector, bytes_inside(d, sector, rq->__data_len));
	return 0;
}

/* Marks late what a failed write was to change: the disk has not got what the ring says. */
inline_always void failed(struct control *c, struct disk *d, u64 sector, u64 bytes)
{
	mark(late_region() + d->word, d->shift, sector, bytes_inside(d, sector, bytes));
	__sync_fetch_and_add(&c->drops, 1);
}

/* A dropped bio has completed: what is on the disk now may not be what user space read. */
inline_always void finish(struct control *c, struct dropped_bio *b)
{
	if (__sync_lock_test_and_set(&b->done, 1))
		return;
	mark(late_region() + b->word, b->shift, b->sector, b->bytes);
	__sync_fetch_and_add(&c->outstanding, -1);
}

/*
 * Only the second twin deletes: the first may still be counting another part of the bio on another CPU, and a deleted
 * entry can at once be another bio's. If the second was not run, the entry stays, for the next bio at that address.
 */
inline_always void forget(struct control *c, u64 key, u32 twin)
{
	if (twin && bpf_map_delete_elem(&dropped, &key) == 0)
		__sync_fetch_and_add(&c->remembered, -1);
}

/*
 * Bios complete in two ways. One that became requests, or parts of them, completes in block_rq_complete, which shows
 * the request's bios but not when the last part of one is done: so the bytes are counted. Any other completes in
 * block_bio_complete.
 */
inline_always int on_bio_done(struct bio *bio, u32 twin)
{
	struct control *c = the_control();
	if (!c || (!*(volatile u64 *)&c->remembered && !bio->bi_status))
		return 0;
	u64 key = (u64)bio;
	struct dropped_bio *b = bpf_map_lookup_elem(&dropped, &key);
	if (b) {
		finish(c, b);
		forget(c, key, twin);
	}
	/* A bio that failed before it became a request (REQ_NOWAIT) still has its range; else on_rq_done saw it. */
	if (!bio->bi_status || !(bio->bi_opf & 1) || !bio->bi_iter.bi_size)
		return 0;
	struct disk *d = disk_of(bio->bi_bdev->bd_disk);
	if (d)
		failed(c, d, bio->bi_iter.bi_sector, bio->bi_iter.bi_size);
	return 0;
}

SEC("tp_btf/block_bio_complete")
int on_bio_complete(u64 *ctx)
{
	return on_bio_done((struct bio *)ctx[1], 0);
}

SEC("tp_btf/block_bio_complete")
int on_bio_complete_twin(u64 *ctx)
{
	return on_bio_done((struct bio *)ctx[1], 1);
}

/* A twin's walk over the bios of a request. */
struct walk {
	u64 bio;
	u64 bytes; /* of the request that complete now and that bio and those after it have */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, struct walk);
} walks SEC(".maps");

#define MAX_BIOS 4096 /* of a request */

/* Counts completed bytes of a dropped bio. Not 0 if key is none, or, for a part of it, none that has these sectors. */
inline_always int account(u64 key, u32 twin, int part, u64 sector, u32 bytes)
{
	struct dropped_bio *b = bpf_map_lookup_elem(&dropped, &key);
	struct control *c = the_control();
	if (!b || !c || (part && (sector < b->sector || sector + (bytes >> 9) > b->sector + (b->bytes >> 9))))
		return -1;
	u64 *left = twin ? &b->left[1] : &b->left[0];
	if (__sync_fetch_and_add(left, -(u64)bytes) != bytes)
		return 0;
	finish(c, b);
	forget(c, key, twin);
	return 0;
}

static long walk_step(u32 i, u32 *ctx)
{
	u32 twin = *ctx & 1;
	struct walk *w = bpf_map_lookup_elem(&walks, &twin);
	if (!w || !w->bio || !w->bytes)
		return 1;
	struct bio *bio = (struct bio *)w->bio;
	u64 next = 0, parent = 0, sector = 0;
	u32 bytes = 0;
	if (read_field(next, bio, bi_next) || read_field(parent, bio, bi_private) ||
	    read_field(sector, bio, bi_iter.bi_sector) || read_field(bytes, bio, bi_iter.bi_size))
		return 1;
	if (bytes > w->bytes)
		bytes = w->bytes;
	/* A part that was split off a bio has that as its private pointer. */
	if (bytes && account(w->bio, twin, 0, sector, bytes))
		account(parent, twin, 1, sector, bytes);
	w->bytes -= bytes;
	w->bio = next;
	return 0;
}

inline_always void account_bios(struct request *rq, u32 twin, u32 bytes)
{
	struct walk *w = bpf_map_lookup_elem(&walks, &twin);
	if (!w)
		return;
	w->bio = (u64)rq->bio;
	w->bytes = bytes;
	bpf_loop(MAX_BIOS, walk_step, &twin, 0);
}

inline_always int on_rq_done(struct request *rq, u8 error, u32 bytes, u32 twin)
{
	struct control *c = the_control();
	if (!c)
		return 0;
	int draining = *(volatile u64 *)&c->drain_wanted != *(volatile u64 *)&c->drain_ended;
	int remembered = *(volatile u64 *)&c->remembered != 0;
	if (!(error || draining || remembered) || !(rq->cmd_flags & 1))
		return 0;
	struct disk *d = disk_of(rq->q->disk);
	if (d && error)
		failed(c, d, rq->__sector, bytes);
	else if (d && draining)
		mark(late_region() + d->word, d->shift, rq->__sector, bytes_inside(d, rq->__sector, bytes));
	if (remembered)
		account_bios(rq, twin, bytes);
	return 0;
}

SEC("tp_btf/block_rq_complete")
int on_rq_complete(u64 *ctx)
{
	return on_rq_done((struct request *)ctx[0], ctx[1], ctx[2], 0);
}

SEC("tp_btf/block_rq_complete")
int on_rq_complete_twin(u64 *ctx)
{
	return on_rq_done((struct request *)ctx[0], ctx[1], ctx[2], 1);
}

/*
 * Calibration: where the kernel keeps struct page and where it maps memory, on kernels that do not tell. The loader
 * reads one page from a captured disk; on_calibrate notes the struct page of its buffer; on_probe looks at an address.
 */
struct calibration {
	u64 thread; /* in: the loader's tgid << 32 | tid */
	u64 dev;    /* in: the disk */
	u64 page; /* out: bv_page */
	u64 offset;
	u64 task; /* an address that the kernel maps, somewhere above page_offset */
	u64 page_size;
	u64 probe; /* in: an address */
	u64 found[4];
	u64 error;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct calibration);
} calibration SEC(".maps");

SEC("tp_btf/block_bio_queue")
int on_calibrate(u64 *ctx)
{
	struct bio *bio = (struct bio *)ctx[0];
	u32 zero = 0;
	struct calibration *k = bpf_map_lookup_elem(&calibration, &zero);
	if (!k || bpf_get_current_pid_tgid() != k->thread || (bio->bi_opf & REQ_OP_MASK) != REQ_OP_READ)
		return 0;
	struct gendisk *g = bio->bi_bdev->bd_disk;
	if (((u32)g->major << 20 | (u32)g->first_minor) != k->dev || bio->bi_iter.bi_size != 4096)
		return 0;
	struct segment v;
	void *vec = (void *)((u64)bio->bi_io_vec + (u64)bio->bi_iter.bi_idx * sizeof(v));
	if (bpf_probe_read_kernel(&v, sizeof(v), vec))
		return 0;
	k->page = v.bv_page;
	k->offset = v.bv_offset;
	k->task = bpf_get_current_task();
	k->page_size = type_size(struct page);
	return 0;
}

SEC("raw_tp/sched_switch")
int on_probe(void *ctx)
{
	u32 zero = 0;
	struct calibration *k = bpf_map_lookup_elem(&calibration, &zero);
	if (k)
		k->error = bpf_probe_read_kernel(k->found, sizeof(k->found), (void *)k->probe);
	return 0;
}
