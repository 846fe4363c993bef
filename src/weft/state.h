/* SPDX-License-Identifier: MIT
 * state.h: saved state, one versioned, checksummed, endian-neutral blob. */
#include "base.h"
#include "device.h"
#include "tensor.h"
#include "wire.h"
/*==== API ====*/

/* ---- The saved blob ----
 *
 * All numbers little-endian. 0 u32 magic 'wefs'  4 u32 blob version  8 u64 fingerprint of the object's settings
 * 16 u64 length of the whole blob  24 ... fields of the algorithm, each u64 (floating point: the bits of a double)
 * or raw elements, in a fixed order  last 4 bytes: CRC-32C of everything before. */
#define WEFT_BLOB_VERSION 1u
/*==== IMPLEMENTATION ====*/

#define WEFT_BLOB_MAGIC 0x73666577u /* "wefs" */
enum { WEFT_BLOB_HEAD = 24, WEFT_BLOB_TAIL = 4 };

/* One cursor for measuring (bytes == NULL), writing and reading, so that the three cannot disagree on the order of
 * fields. */
typedef struct weft_blob {
    unsigned char *bytes;      /* writing */
    const unsigned char *from; /* reading */
    size_t at, capacity;
    int short_of; /* ran past the end */
#ifdef WEFT_CUDA
    weft_gpu *gpu; /* has what weft_blob_raw reads and writes */
#endif
} weft_blob;

WEFT_FN int weft_blob_room(weft_blob *b, size_t bytes) {
    if (!b->bytes && !b->from) return 1;
    if (b->capacity - b->at >= bytes) return 1;
    b->short_of = 1;
    return 0;
}

WEFT_FN void weft_blob_u64(weft_blob *b, uint64_t *v) {
    if (weft_blob_room(b, 8)) {
        if (b->from)
            *v = weft_get64(b->from + b->at);
        else if (b->bytes)
            weft_put64(b->bytes + b->at, *v);
    }
    b->at += b->short_of ? 0 : 8;
}

WEFT_FN void weft_blob_double(weft_blob *b, double *v) {
    uint64_t bits = weft_double_bits(*v);
    weft_blob_u64(b, &bits);
    if (b->from && !b->short_of) memcpy(v, &bits, sizeof bits);
}

/* `bytes` bytes of elements of `each` bytes, stored little-endian. */
WEFT_FN void weft_blob_raw(weft_blob *b, void *data, size_t bytes, size_t each) {
    if (bytes && weft_blob_room(b, bytes)) {
        if (b->from) {
            weft_data_in(WEFT_GPU_OF(b), data, b->from + b->at, bytes);
            if (weft_big_endian()) weft_data_swap(WEFT_GPU_OF(b), (unsigned char *)data, bytes, each);
        } else if (b->bytes) {
            weft_data_out(WEFT_GPU_OF(b), b->bytes + b->at, data, bytes);
            if (weft_big_endian()) weft_swap(b->bytes + b->at, bytes, each);
        }
    }
    b->at += b->short_of ? 0 : bytes;
}

WEFT_FN void weft_blob_seal(unsigned char *p, size_t bytes, uint64_t fingerprint) {
    weft_put32(p, WEFT_BLOB_MAGIC);
    weft_put32(p + 4, WEFT_BLOB_VERSION);
    weft_put64(p + 8, fingerprint);
    weft_put64(p + 16, bytes);
    weft_put32(p + bytes - WEFT_BLOB_TAIL, weft_crc32c(0, p, bytes - WEFT_BLOB_TAIL));
}

/* Is this a whole blob of these settings and of the length that they make? */
WEFT_FN weft_status weft_blob_check(const unsigned char *p, size_t bytes, size_t expected, uint64_t fingerprint,
                                    weft_detail *d) {
    uint32_t crc;
    if (!p || bytes < WEFT_BLOB_HEAD + WEFT_BLOB_TAIL)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("blob length"), expected, bytes);
    if (weft_get32(p) != WEFT_BLOB_MAGIC)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("blob magic"), WEFT_BLOB_MAGIC, weft_get32(p));
    if (weft_get32(p + 4) != WEFT_BLOB_VERSION)
        return weft_refuse(d, WEFT_ERR_VERSION, WEFT_TEXT("blob version"), WEFT_BLOB_VERSION, weft_get32(p + 4));
    if (weft_get64(p + 16) != bytes)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("blob length"), weft_get64(p + 16), bytes);
    crc = weft_crc32c(0, p, bytes - WEFT_BLOB_TAIL);
    if (crc != weft_get32(p + bytes - WEFT_BLOB_TAIL))
        return weft_refuse(d, WEFT_ERR_CHECKSUM, WEFT_TEXT("blob checksum"), crc,
                           weft_get32(p + bytes - WEFT_BLOB_TAIL));
    if (weft_get64(p + 8) != fingerprint)
        return weft_refuse(d, WEFT_ERR_MISMATCH, WEFT_TEXT("blob fingerprint"), fingerprint, weft_get64(p + 8));
    if (bytes != expected) return weft_refuse(d, WEFT_ERR_MISMATCH, WEFT_TEXT("blob length"), expected, bytes);
    return WEFT_OK;
}
