/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The maps of a capture and the records of its ring: everything that user space reads or writes too. Its mirror is in
 * the Go files of the parent folder; a change of any of it is a new format version there.
 */
#pragma once

#include "kernel.h"

/*
 * A record of the ring, after the ring's own 8-byte header (little endian):
 *
 *   0        8        16       24       32     36     38   39     40
 *   +--------+--------+--------+--------+------+------+----+------+----------------
 *   | sector | bytes  | time   | drops  | cpu  | disk | op | flag | data (a write's)
 *   +--------+--------+--------+--------+------+------+----+------+----------------
 *
 * A bio is one or more records. Data is in pieces of constant size, so what the ring reserved may be longer than bytes.
 */
struct record {
	u64 sector;
	u64 bytes;
	u64 time;
	u64 drops;
	u32 cpu;
	u16 disk;
	u8 op;
	u8 flags;
	u8 data[];
};

#define OP_FLUSH 2 /* REQ_OP_FLUSH, for an empty write with a preflush */

#define FLAG_FIRST 1
#define FLAG_LAST 2
#define FLAG_FUA 4
#define FLAG_PREFLUSH 8

/* The bitmaps: one array of words, four regions one after the other, in each the disks one after the other. */
#define REGION_GEN0 0
#define REGION_GEN1 1
#define REGION_DEBT 2
#define REGION_LATE 3

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4); /* 4 * region_words */
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, u32);
	__type(value, u64);
} bits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096); /* the ring's size */
} ring SEC(".maps");

struct control {
	u64 complete;     /* format version once everything is pinned; by user space */
	u64 current;      /* generation that bits are set in: 0 or 1; by user space */
	u64 drops;        /* bios whose data is not in the ring, and writes that failed */
	u64 remembered;   /* entries of dropped */
	u64 outstanding;  /* those of them whose bio has not completed */
	u64 drain_wanted; /* how often draining was asked for */
	u64 drain_ended;  /* up to which asking it has ended; by user space */
	u64 misses;       /* missed runs of programs that are already counted in drops; by user space */
	u64 lost;         /* completed writes that nothing remembered (bitmap mode) */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, u32);
	__type(value, struct control);
} control SEC(".maps");

/* Cells of user space, untouched here: they live as long as the capture. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 64);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, u32);
	__type(value, u64);
} meta SEC(".maps");

/* Who captures what: a JSON text, padded with zero bytes; by user space. */
struct owner {
	u8 json[65536];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct owner);
} owner SEC(".maps");

struct disk {
	u64 word;    /* where the disk's bits begin in a region */
	u64 sectors; /* size */
	u64 written; /* sectors of all writes queued, discards left out */
	u32 shift;   /* log2 of the bytes of a block */
	u32 index;   /* the disk's name in records */
};

/* The captured disks by major << 20 | minor. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct disk);
} disks SEC(".maps");

struct dropped_bio {
	u64 word;
	u64 sector;
	u64 bytes;   /* inside the disk */
	u64 left[2]; /* bytes not completed yet, as each twin of the completion programs counts */
	u32 shift;
	u32 done;    /* completed; the entry is to be used anew */
};

/* Dropped bios in flight, by address. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, u64);
	__type(value, struct dropped_bio);
} dropped SEC(".maps");
