// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Captures every write to a set of disks, with its data, in the order of submission.
 *
 * on_queue runs when a bio enters the block layer, before it can reach the disk: it sets the dirty bits, then copies
 * the data into the ring. What cannot be copied is counted and remembered until it completes. on_issue sets bits a
 * second time, for a bio that on_queue missed. The completion programs mark blocks late whose content may have changed
 * after user space read them. The records of one bio come from one CPU in a row: no program is moved to another CPU.
 *
 * The kernel skips a program that an interrupt, or a task that preempts it, would start while it already runs on that
 * CPU. For on_queue user space counts that as drops. The completion programs are attached twice: while one is
 * interrupted, its twin is not running.
 */
#include "bits.h"
#include "calibrate.h"
#include "copy.h"
#include "dropped.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

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
