/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The dirty and late bits, and what every program looks up. */
#pragma once

#include "layout.h"

/* Set by the loader. */
const volatile u64 region_words = 0; /* words of one region of bits */
const volatile u64 ring_bytes = 0;
const volatile u64 vmemmap = 0;     /* the struct page of page frame 0 */
const volatile u64 page_offset = 0; /* where the kernel maps page frame 0 */

inline_always struct control *the_control(void)
{
	u32 zero = 0;
	return bpf_map_lookup_elem(&control, &zero);
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
