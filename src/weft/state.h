/* SPDX-License-Identifier: MIT
 * state.h: saved state, one versioned, checksummed, endian-neutral blob, that may go in pieces. */
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

/* Where a blob goes that no memory has room for: flash, a file, a line. Takes the next `bytes` bytes, at most 256 at a
 * time (with WEFT_CUDA 16,384), which are gone when it returns. Anything but WEFT_OK ends the saving, with this status;
 * the object is as before. It must not call verbs of the object. */
typedef weft_status (*weft_write_fn)(void *ctx, const void *data, size_t bytes);

/* Gives the `bytes` bytes of a blob that begin at `at`. All are asked for twice, in order: first the blob is checked,
 * and then taken. Anything but WEFT_OK ends the loading, with this status; the object is as before. */
typedef weft_status (*weft_read_fn)(void *ctx, size_t at, void *data, size_t bytes);
/*==== IMPLEMENTATION ====*/

#define WEFT_BLOB_MAGIC 0x73666577u /* "wefs" */
#define WEFT_BLOB_FIRST ((uint64_t)WEFT_BLOB_VERSION << 32 | WEFT_BLOB_MAGIC)
enum { WEFT_BLOB_HEAD = 24, WEFT_BLOB_TAIL = 4 };
#ifdef WEFT_CUDA
enum { WEFT_BLOB_PIECE = 16384 }; /* each is a transfer */
#else
enum { WEFT_BLOB_PIECE = 256 };
#endif

/* One cursor for measuring (neither callback), writing and reading, so that the three cannot disagree on the order of
 * fields. */
typedef struct weft_blob {
    weft_write_fn write;
    weft_read_fn read;
    void *ctx;
    size_t at, capacity;
    uint32_t crc;
    weft_status status; /* the first failure; nothing moves any more */
#ifdef WEFT_CUDA
    weft_gpu *gpu; /* has what weft_blob_raw reads and writes */
#endif
} weft_blob;

WEFT_FN void weft_blob_move(weft_blob *b, void *data, size_t bytes) {
    if (b->status == WEFT_OK && b->read)
        b->status = b->capacity - b->at < bytes ? WEFT_ERR_ARGUMENT : b->read(b->ctx, b->at, data, bytes);
    else if (b->status == WEFT_OK && b->write)
        b->status = b->write(b->ctx, data, bytes);
    if (b->status != WEFT_OK) return;
    if (b->read || b->write) b->crc = weft_crc32c(b->crc, data, bytes);
    b->at += bytes;
}

WEFT_FN void weft_blob_u64(weft_blob *b, uint64_t *v) {
    unsigned char p[8];
    weft_put64(p, *v);
    weft_blob_move(b, p, sizeof p);
    if (b->status == WEFT_OK) *v = weft_get64(p);
}

WEFT_FN void weft_blob_double(weft_blob *b, double *v) {
    uint64_t bits = weft_double_bits(*v);
    weft_blob_u64(b, &bits);
    memcpy(v, &bits, sizeof bits);
}

/* `bytes` bytes of elements of `each` bytes, stored little-endian. */
WEFT_FN void weft_blob_raw(weft_blob *b, void *data, size_t bytes, size_t each) {
    unsigned char piece[WEFT_BLOB_PIECE], *p = (unsigned char *)data;
    if (!b->read && !b->write) b->at += bytes;
    while ((b->read || b->write) && bytes && b->status == WEFT_OK) {
        const size_t n = bytes < sizeof piece ? bytes : sizeof piece;
        if (b->write) weft_data_out(WEFT_GPU_OF(b), piece, p, n);
        if (b->write && weft_big_endian()) weft_swap(piece, n, each);
        weft_blob_move(b, piece, n);
        if (b->read && weft_big_endian()) weft_swap(piece, n, each);
        if (b->read && b->status == WEFT_OK) weft_data_in(WEFT_GPU_OF(b), p, piece, n);
        p += n;
        bytes -= n;
    }
}

/* A blob in memory, as one that goes in pieces. */
typedef struct weft_blob_buffer {
    unsigned char *to;
    const unsigned char *from;
    size_t bytes;
} weft_blob_buffer;

WEFT_FN weft_status weft_blob_to_buffer(void *ctx, const void *data, size_t bytes) {
    weft_blob_buffer *m = (weft_blob_buffer *)ctx;
    memcpy(m->to, data, bytes);
    m->to += bytes;
    return WEFT_OK;
}

WEFT_FN weft_status weft_blob_from_buffer(void *ctx, size_t at, void *data, size_t bytes) {
    memcpy(data, ((weft_blob_buffer *)ctx)->from + at, bytes);
    return WEFT_OK;
}

/* Begins to write a blob of `need` bytes, and tells that length; without `write` it only tells. */
WEFT_FN weft_status weft_blob_begin(weft_blob *b, weft_write_fn write, void *ctx, uint64_t need, uint64_t fingerprint,
                                    size_t *bytes, weft_detail *d) {
    uint64_t first = WEFT_BLOB_FIRST;
    memset(b, 0, sizeof *b);
    if (bytes)
        *bytes = (size_t)need;
    else if (!write)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("bytes"), 1, 0);
    if (write == weft_blob_to_buffer && ((weft_blob_buffer *)ctx)->bytes < need)
        return weft_refuse(d, WEFT_ERR_CAPACITY, WEFT_TEXT("capacity"), need, ((weft_blob_buffer *)ctx)->bytes);
    b->write = write;
    b->ctx = ctx;
    b->capacity = (size_t)need;
    weft_blob_u64(b, &first);
    weft_blob_u64(b, &fingerprint);
    weft_blob_u64(b, &need);
    return WEFT_OK;
}

/* Ends it, or a reading: have all of the fields and nothing else been moved, was what was read what was checked, and
 * does it make sense? */
WEFT_FN weft_status weft_blob_end(weft_blob *b, int sane, weft_detail *d) {
    unsigned char tail[WEFT_BLOB_TAIL];
    const uint32_t crc = b->crc;
    weft_put32(tail, crc);
    weft_blob_move(b, tail, sizeof tail);
    if (b->status == WEFT_OK && (!sane || b->at != b->capacity || weft_get32(tail) != crc))
        b->status = WEFT_ERR_ARGUMENT;
    return b->status == WEFT_OK ? WEFT_OK : weft_refuse(d, b->status, WEFT_TEXT("blob contents"), b->capacity, b->at);
}

/* Is this a whole blob of these settings and of the length that they make? Then b stands at its fields. */
WEFT_FN weft_status weft_blob_check(weft_blob *b, weft_read_fn read, void *ctx, size_t bytes, size_t expected,
                                    uint64_t fingerprint, weft_detail *d) {
    unsigned char piece[WEFT_BLOB_PIECE];
    uint64_t first = WEFT_BLOB_FIRST, theirs = 0, length = 0;
    uint32_t crc, of_head;
    memset(b, 0, sizeof *b);
    b->read = read;
    b->ctx = ctx;
    b->capacity = bytes;
    if (!read || bytes < WEFT_BLOB_HEAD + WEFT_BLOB_TAIL)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("blob length"), expected, bytes);
    weft_blob_u64(b, &first);
    weft_blob_u64(b, &theirs);
    weft_blob_u64(b, &length);
    of_head = b->crc;
    while (b->status == WEFT_OK && b->at < bytes - WEFT_BLOB_TAIL) {
        const size_t rest = bytes - WEFT_BLOB_TAIL - b->at;
        weft_blob_move(b, piece, rest < sizeof piece ? rest : sizeof piece);
    }
    crc = b->crc;
    weft_blob_move(b, piece, WEFT_BLOB_TAIL);
    if (b->status != WEFT_OK) return weft_refuse(d, b->status, WEFT_TEXT("blob"), bytes, b->at);
    if ((uint32_t)first != WEFT_BLOB_MAGIC)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("blob magic"), WEFT_BLOB_MAGIC, (uint32_t)first);
    if (first != WEFT_BLOB_FIRST)
        return weft_refuse(d, WEFT_ERR_VERSION, WEFT_TEXT("blob version"), WEFT_BLOB_VERSION, first >> 32);
    if (length != bytes) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("blob length"), length, bytes);
    if (crc != weft_get32(piece))
        return weft_refuse(d, WEFT_ERR_CHECKSUM, WEFT_TEXT("blob checksum"), crc, weft_get32(piece));
    if (theirs != fingerprint)
        return weft_refuse(d, WEFT_ERR_MISMATCH, WEFT_TEXT("blob fingerprint"), fingerprint, theirs);
    if (bytes != expected) return weft_refuse(d, WEFT_ERR_MISMATCH, WEFT_TEXT("blob length"), expected, bytes);
    b->at = WEFT_BLOB_HEAD;
    b->crc = of_head;
    return WEFT_OK;
}
