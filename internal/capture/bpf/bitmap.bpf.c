// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Notes which blocks of a set of disks are written, and that they are: queueing, issuing and completing a write each
 * set the bits of its blocks, then count. Nothing is copied and no helper reads kernel memory, so it loads where
 * lockdown=confidentiality withholds those.
 *
 * A driver without requests shows neither issuing nor, at completion, the range; so a write to one is remembered by
 * address. The completion programs are attached twice, for the reason given in capture.bpf.c.
 */
#include "bits.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Bits before the count: who sees the count sees the bits. */
inline_always void event(struct control *c, struct disk *d, u64 sector, u64 bytes)
{
	mark(dirty_region(c) + d->word, d->shift, sector, bytes_inside(d, sector, bytes));
	__sync_fetch_and_add(&c->drops, 1);
}

inline_always int makes_requests(struct gendisk *g)
{
	return g->queue->mq_ops != 0;
}

/* A remembered write has completed. */
inline_always void ended(struct control *c, struct dropped_bio *b)
{
	if (__sync_lock_test_and_set(&b->done, 1))
		return;
	if (b->bytes) {
		mark(dirty_region(c) + b->word, b->shift, b->sector, b->bytes);
		__sync_fetch_and_add(&c->drops, 1);
	}
	__sync_fetch_and_add(&c->outstanding, -1);
}

inline_always void remember(struct control *c, struct disk *d, struct bio *bio, u64 sector, u32 bytes)
{
	u64 key = (u64)bio;
	struct dropped_bio b = {
		.word = d->word, .sector = sector, .bytes = bytes_inside(d, sector, bytes), .shift = d->shift,
	};
	if (bpf_map_update_elem(&dropped, &key, &b, BPF_NOEXIST) == 0) {
		__sync_fetch_and_add(&c->remembered, 1);
		__sync_fetch_and_add(&c->outstanding, 1);
		return;
	}
	struct dropped_bio *old = bpf_map_lookup_elem(&dropped, &key);
	if (!old) /* no room: its completion finds nothing, and says so */
		return;
	ended(c, old); /* its address is free again, so it has, though nobody may have seen it */
	*old = b;
	__sync_fetch_and_add(&c->outstanding, 1);
}

SEC("tp_btf/block_bio_queue")
int on_queue(u64 *ctx)
{
	struct bio *bio = (struct bio *)ctx[0];
	u8 op = bio->bi_opf & REQ_OP_MASK;
	u32 bytes = bio->bi_iter.bi_size;
	if (!(op & 1)) /* what changes a disk is odd */
		return 0;
	struct gendisk *g = bio->bi_bdev->bd_disk;
	struct disk *d = disk_of(g);
	struct control *c = the_control();
	if (!d || !c)
		return 0;
	u64 sector = bio->bi_iter.bi_sector;
	if (!makes_requests(g)) /* flushes too: their completion looks like any other */
		remember(c, d, bio, sector, bytes);
	if (!bytes)
		return 0;
	if (op != REQ_OP_DISCARD) /* as the kernel counts writes */
		__sync_fetch_and_add(&d->written, bytes >> 9);
	event(c, d, sector, bytes);
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
	if (d && c)
		event(c, d, rq->__sector, rq->__data_len);
	return 0;
}

inline_always int on_rq_done(struct request *rq, u32 bytes)
{
	if (!(rq->cmd_flags & 1))
		return 0;
	struct disk *d = disk_of(rq->q->disk);
	struct control *c = the_control();
	if (d && c)
		event(c, d, rq->__sector, bytes);
	return 0;
}

SEC("tp_btf/block_rq_complete")
int on_rq_complete(u64 *ctx)
{
	return on_rq_done((struct request *)ctx[0], ctx[2]);
}

SEC("tp_btf/block_rq_complete")
int on_rq_complete_twin(u64 *ctx)
{
	return on_rq_done((struct request *)ctx[0], ctx[2]);
}

/* Only the second twin deletes: a deleted entry can at once be another bio's. */
inline_always int on_bio_done(struct bio *bio, u32 twin)
{
	if (!(bio->bi_opf & 1))
		return 0;
	struct gendisk *g = bio->bi_bdev->bd_disk;
	struct disk *d = disk_of(g);
	struct control *c = the_control();
	if (!d || !c || makes_requests(g)) /* of which on_rq_complete tells; or it failed before it became one */
		return 0;
	u64 key = (u64)bio;
	struct dropped_bio *b = bpf_map_lookup_elem(&dropped, &key);
	if (!b) {
		if (!twin)
			__sync_fetch_and_add(&c->lost, 1);
		return 0;
	}
	ended(c, b);
	if (twin && bpf_map_delete_elem(&dropped, &key) == 0)
		__sync_fetch_and_add(&c->remembered, -1);
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
