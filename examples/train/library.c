/* SPDX-License-Identifier: MIT
 * library.c: the file of this program that implements the five headers. Where the program is built for a GPU (make
 * train-cuda) CUDA's compiler takes it, as C++, and no other file that includes them has to be its. */
#define GRAWA_IMPLEMENTATION
#define SUBSPACE_IMPLEMENTATION
#define HPSGD_IMPLEMENTATION
#define DSGD_AAU_IMPLEMENTATION
#define SADDLE_IMPLEMENTATION
#include "grawa.h"
#include "subspace.h"
#include "hpsgd.h"
#include "dsgd_aau.h"
#include "saddle.h"

#include "sums.h"

size_t sums_memory(const weft_collective_desc *d, weft_memory_report *report) {
    return weft_collective_memory(d, report);
}

weft_status sums_init(weft_collective **out, const weft_collective_desc *d, void *memory, size_t bytes,
                      weft_detail *detail) {
    return weft_collective_init(out, d, memory, bytes, detail);
}

weft_status sums_begin(weft_collective *c, const double *weight) {
    return weft_collective_begin(c, WEFT_OP_ALL_REDUCE, weight, 0);
}

weft_status sums_begin_broadcast(weft_collective *c, uint32_t root) {
    return weft_collective_begin(c, WEFT_OP_BROADCAST, NULL, root);
}

weft_status sums_poll(weft_collective *c) {
    return weft_collective_poll(c);
}

weft_status sums_regroup(weft_collective *c, const weft_view *view) {
    return weft_collective_regroup(c, view);
}

weft_status sums_link(weft_collective *c, uint32_t rank, int up) {
    return up ? weft_collective_peer_up(c, rank) : weft_collective_peer_lost(c, rank);
}

uint64_t sums_committed(const weft_collective *c) {
    return c->committed;
}

const weft_detail *sums_detail(const weft_collective *c) {
    return weft_collective_detail(c);
}

const weft_traffic *sums_traffic(const weft_collective *c) {
    return weft_collective_traffic(c);
}

void sums_close(weft_collective *c) {
    weft_collective_close(c);
}
