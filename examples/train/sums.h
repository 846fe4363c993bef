/* SPDX-License-Identifier: MIT
 * sums.h: the collectives underneath the algorithms (weft_collective). Their functions are there only in the unit that
 * implements the headers, library.c, which hands them on as they are. */
#ifndef TRAIN_SUMS_H
#define TRAIN_SUMS_H

#include "grawa.h"

#ifdef __cplusplus
extern "C" {
#endif

size_t sums_memory(const weft_collective_desc *d, weft_memory_report *report);
weft_status sums_init(weft_collective **out, const weft_collective_desc *d, void *memory, size_t bytes,
                      weft_detail *detail);
weft_status sums_begin(weft_collective *c, const double *weight);
weft_status sums_begin_broadcast(weft_collective *c, uint32_t root);
weft_status sums_poll(weft_collective *c);
weft_status sums_regroup(weft_collective *c, const weft_view *view);
weft_status sums_link(weft_collective *c, uint32_t rank, int up);
uint64_t sums_committed(const weft_collective *c); /* operations that are over */
const weft_detail *sums_detail(const weft_collective *c);
const weft_traffic *sums_traffic(const weft_collective *c);
void sums_close(weft_collective *c);

#ifdef __cplusplus
}
#endif

#endif
