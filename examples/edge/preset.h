/* SPDX-License-Identifier: MIT
 * preset.h: settings for models of at most 1,024 parameters in a few kilobytes of RAM, over a line that takes EDGE_FRAME
 * bytes at a time. Each sets the fields of a descriptor that cost memory, and leaves the others. Include it after the
 * headers that are used, and weft_link.h. `make edge` shows what they come to. */
#ifndef EDGE_PRESET_H
#define EDGE_PRESET_H

enum {
    EDGE_FRAME = 51 /* LoRaWAN at its slowest takes so many */
};

#ifdef WEFT_LINK_H
static inline void edge_frames(weft_frames_desc *d, uint32_t rank, uint32_t size) {
    d->struct_size = sizeof *d;
    d->rank = rank;
    d->size = size;
    d->largest_frame = EDGE_FRAME;
    d->window = 8;
    d->requests_per_peer = 8;
    d->tries = 65535;            /* who sleeps is not lost; who is, the program says */
    d->retry_ns = 100 * 1000000; /* eight frames take 40 ms at 115,200 bits a second */
}
#endif

#ifdef DSGD_AAU_API
static inline void edge_dsgd_aau(dsgd_aau_desc *d) {
    d->piece_bytes = 1024;
    d->fan = 1; /* pairs only */
}
#endif

#ifdef SADDLE_API
static inline void edge_saddle(saddle_desc *d) {
    d->piece_bytes = 4096; /* a model is one message */
    d->in_place = 1;
}
#endif

#ifdef GRAWA_API
static inline void edge_grawa(grawa_desc *d) {
    d->weighting = GRAWA_BY_MODEL;
}
#endif

#ifdef SUBSPACE_API
static inline void edge_subspace(subspace_desc *d) {
    d->in_place = 1;
}
#endif

#ifdef HPSGD_API
static inline void edge_hpsgd(hpsgd_desc *d) {
    d->polling = 1;
}
#endif

#endif
