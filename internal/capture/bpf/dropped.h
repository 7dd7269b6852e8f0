/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Keeps count of dropped bios until they complete. */
#pragma once

#include "bits.h"

/* A dropped bio has completed: what is on the disk now may not be what user space read. */
inline_always void finish(struct control *c, struct dropped_bio *b)
{
	if (__sync_lock_test_and_set(&b->done, 1))
		return;
	mark(late_region() + b->word, b->shift, b->sector, b->bytes);
	__sync_fetch_and_add(&c->outstanding, -1);
}

/*
 * Remembers a bio whose data is not in the ring. It is counted last: who sees the count sees the rest, and all of it is
 * done before the bio is submitted.
 *
 * Another bio that is remembered at its address has completed, or the address would not be free. Where that went unseen,
 * because the kernel ran no program then, it is made up for here. Else the new bio's bytes would be counted as the old one's,
 * which came to nothing, and neither would ever complete.
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
		if (old) {
			finish(c, old);
			*old = b;
			__sync_fetch_and_add(&c->outstanding, 1);
		} else {
			__sync_fetch_and_add(&c->drain_wanted, 1);
		}
	}
	__sync_fetch_and_add(&c->drops, 1);
}

/* Marks late what a failed write was to change: the disk has not got what the ring says. */
inline_always void failed(struct control *c, struct disk *d, u64 sector, u64 bytes)
{
	mark(late_region() + d->word, d->shift, sector, bytes_inside(d, sector, bytes));
	__sync_fetch_and_add(&c->drops, 1);
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
