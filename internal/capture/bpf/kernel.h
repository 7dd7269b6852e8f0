/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What capture.bpf.c uses of the kernel: types, helpers and the few struct members it touches. The members' offsets
 * are relocated when the programs are loaded (CO-RE), so no vmlinux.h of one kernel is baked in. Nothing here is newer
 * than Linux 6.1.
 */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define inline_always static inline __attribute__((always_inline))
#define __uint(name, val) int(*name)[val]
#define __type(name, val) typeof(val) *name

/* Hides a value's history from the compiler, which would else drop the range checks that the verifier needs. */
#define opaque(x) asm volatile("" : "+r"(x))

#define BPF_MAP_TYPE_HASH 1
#define BPF_MAP_TYPE_ARRAY 2
#define BPF_MAP_TYPE_PERCPU_ARRAY 6
#define BPF_MAP_TYPE_RINGBUF 27
#define BPF_F_MMAPABLE (1 << 10)
#define BPF_NOEXIST 1
#define BPF_RB_NO_WAKEUP 1
#define BPF_RB_AVAIL_DATA 0

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_map_update_elem)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static u64 (*bpf_ktime_get_ns)(void) = (void *)5;
static u32 (*bpf_get_smp_processor_id)(void) = (void *)8;
static u64 (*bpf_get_current_pid_tgid)(void) = (void *)14;
static u64 (*bpf_get_current_task)(void) = (void *)35;
static long (*bpf_probe_read_kernel)(void *dst, u32 size, const void *src) = (void *)113;
static void *(*bpf_ringbuf_reserve)(void *ring, u64 size, u64 flags) = (void *)131;
static void (*bpf_ringbuf_submit)(void *data, u64 flags) = (void *)132;
static void (*bpf_ringbuf_discard)(void *data, u64 flags) = (void *)133;
static u64 (*bpf_ringbuf_query)(void *ring, u64 flags) = (void *)134;
static long (*bpf_loop)(u32 count, void *callback, void *ctx, u64 flags) = (void *)181;

#define RELOCATED __attribute__((preserve_access_index))
#define field_exists(field) __builtin_preserve_field_info(field, 2 /* BPF_FIELD_EXISTS */)
#define read_field(to, p, field) bpf_probe_read_kernel(&(to), sizeof(to), __builtin_preserve_access_index(&(p)->field))
#define type_size(type) __builtin_preserve_type_info(*(type *)0, 1 /* BPF_TYPE_SIZE */)
#define enum_value(type, value) __builtin_preserve_enum_value(*(type *)value, 1 /* BPF_ENUMVAL_VALUE */)

struct page {
	unsigned long flags;
} RELOCATED;

struct gendisk;
struct blk_mq_ops;

struct request_queue {
	struct gendisk *disk;
	struct blk_mq_ops *mq_ops; /* 0 where the driver takes no requests */
} RELOCATED;

struct gendisk {
	int major;
	int first_minor;
	struct request_queue *queue;
} RELOCATED;

struct block_device {
	struct gendisk *bd_disk;
} RELOCATED;

struct bvec_iter {
	u64 bi_sector;
	u32 bi_size;
	u32 bi_idx;
	u32 bi_bvec_done;
} RELOCATED;

/* The same since Linux 7.3, where bi_bvec_done has another name. */
struct bvec_iter___renamed {
	u32 bi_offset;
} RELOCATED;

struct bio_crypt_ctx;

struct bio {
	struct bio *bi_next;
	struct block_device *bi_bdev;
	u32 bi_opf;
	u8 bi_status;
	struct bvec_iter bi_iter;
	void *bi_private;
	struct bio_crypt_ctx *bi_crypt_context; /* only with CONFIG_BLK_INLINE_ENCRYPTION */
	void *bi_io_vec;
} RELOCATED;

struct request {
	struct request_queue *q;
	u32 cmd_flags;
	u32 __data_len;
	u64 __sector;
	struct bio *bio;
} RELOCATED;

enum req_flag_bits {
	__REQ_FUA = 17,
	__REQ_PREFLUSH = 18,
};

/* The kernel's struct bio_vec: copied out whole, so not relocated; its layout has not changed since 2.6. */
struct segment {
	u64 bv_page;
	u32 bv_len;
	u32 bv_offset;
};

#define REQ_OP_MASK 0xff
#define REQ_OP_READ 0
#define REQ_OP_WRITE 1
#define REQ_OP_DISCARD 3
#define REQ_OP_SECURE_ERASE 5
#define REQ_OP_WRITE_ZEROES 9
