/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Calibration: where the kernel keeps struct page and where it maps memory, on kernels that do not tell. The loader
 * reads one page from a captured disk; on_calibrate notes the struct page of its buffer; on_probe looks at an address.
 */
#pragma once

#include "kernel.h"

struct calibration {
	u64 thread;    /* in: the loader's tgid << 32 | tid */
	u64 dev;       /* in: the disk, as the disks map's key */
	u64 page;      /* out: bv_page */
	u64 offset;    /* out: bv_offset */
	u64 task;      /* out: an address that the kernel maps, somewhere above page_offset */
	u64 page_size; /* out: sizeof(struct page) */
	u64 probe;     /* in: an address */
	u64 found[4];  /* out: what is there */
	u64 error;     /* out: not 0 if nothing is */
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
