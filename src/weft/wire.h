/* SPDX-License-Identifier: MIT
 * wire.h: the message header, byte order, checksums. Everything that comes off the wire is read here and nowhere
 * else. */
#include "base.h"
/*==== API ====*/

/* ---- The wire format ----
 *
 * Control messages travel on the first tag of a channel; bulk data on the others. A control message is a header of
 * 64 bytes, little-endian, and at most 192 bytes of payload. Data goes inline if it fits, else in bulk messages that
 * the control message announces; its elements are in the sender's byte order, which the header names, and a receiver
 * of another order turns them.
 *
 *   0 u32 magic 'weft'    4 u8 wire version, u8 order (1: big-endian), u16 kind   8 u32 epoch    12 u32 sender's rank
 *  16 u64 round          24 u32 step           28 u32 piece    32 u64 bytes        40 u64 argument 0
 *  48 u64 argument 1     56 u32 payload bytes in this message  60 u32 CRC-32C of the message with this field zero
 *
 * `bytes` is the length of the data announced; `piece` the longest bulk message the sender makes of it; `step`
 * numbers the exchanges of a round. */
#define WEFT_WIRE_VERSION 1u
#define WEFT_HEADER_BYTES 64u
#define WEFT_CONTROL_BYTES 256u
#define WEFT_INLINE_BYTES (WEFT_CONTROL_BYTES - WEFT_HEADER_BYTES)
/*==== IMPLEMENTATION ====*/

#define WEFT_WIRE_MAGIC 0x74666577u /* "weft" */

/* Kinds of control messages. */
enum {
    WEFT_KIND_EXCHANGE = 1, /* data of an exchange follows, inline or in bulk */
    WEFT_KIND_SYNC = 2,     /* fingerprint and state, exchanged once per view */
    WEFT_KIND_LEAVE = 3,    /* the sender takes part in no further round */
    WEFT_KIND_COUNT = 4,    /* local steps begun in this period (GRAWA, total trigger) */
    WEFT_KIND_READY = 5,    /* arrived in a round (partial rounds) */
    WEFT_KIND_GO = 6,       /* who takes part in a round (partial rounds) */
    WEFT_KIND_LAST = 6
};

typedef struct weft_header {
    uint32_t big_endian, kind, epoch, sender, step, piece, payload;
    uint64_t round, bytes, arg0, arg1;
} weft_header;

WEFT_FN void weft_put32(unsigned char *p, uint32_t v) {
    int i;
    for (i = 0; i < 4; i++) p[i] = (unsigned char)(v >> (8 * i) & 0xFFu);
}

WEFT_FN void weft_put64(unsigned char *p, uint64_t v) {
    weft_put32(p, (uint32_t)(v & 0xFFFFFFFFu));
    weft_put32(p + 4, (uint32_t)(v >> 32));
}

WEFT_FN uint32_t weft_get32(const unsigned char *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

WEFT_FN uint64_t weft_get64(const unsigned char *p) {
    return (uint64_t)weft_get32(p) | (uint64_t)weft_get32(p + 4) << 32;
}

/* CRC-32C (Castagnoli, reflected polynomial 0x82F63B78), half a byte at a time: 64 bytes of table, and only small
 * messages and saved state are checked with it. `crc` chains calls; start with 0. */
WEFT_FN uint32_t weft_crc32c(uint32_t crc, const void *data, size_t bytes) {
    static const uint32_t table[16] = {0x00000000u, 0x105EC76Fu, 0x20BD8EDEu, 0x30E349B1u, 0x417B1DBCu, 0x5125DAD3u,
                                       0x61C69362u, 0x7198540Du, 0x82F63B78u, 0x92A8FC17u, 0xA24BB5A6u, 0xB21572C9u,
                                       0xC38D26C4u, 0xD3D3E1ABu, 0xE330A81Au, 0xF36E6F75u};
    const unsigned char *p = (const unsigned char *)data;
    size_t i;
    crc = ~crc;
    for (i = 0; i < bytes; i++) {
        crc ^= p[i];
        crc = crc >> 4 ^ table[crc & 15u];
        crc = crc >> 4 ^ table[crc & 15u];
    }
    return ~crc;
}

/* 1 on a big-endian machine. */
WEFT_FN uint32_t weft_big_endian(void) {
    const uint32_t one = 1;
    unsigned char first;
    memcpy(&first, &one, 1);
    return first == 0;
}

/* Turns the byte order of every element of `each` bytes. */
WEFT_FN void weft_swap(unsigned char *p, size_t bytes, size_t each) {
    size_t i, j;
    for (i = 0; i + each <= bytes; i += each)
        for (j = 0; j < each / 2; j++) {
            unsigned char t = p[i + j];
            p[i + j] = p[i + each - 1 - j];
            p[i + each - 1 - j] = t;
        }
}

/* Writes the header; the payload must already stand behind it. Returns the length of the message. */
WEFT_FN size_t weft_header_write(unsigned char *p, const weft_header *h) {
    size_t bytes = WEFT_HEADER_BYTES + h->payload;
    weft_put32(p, WEFT_WIRE_MAGIC);
    weft_put32(p + 4, WEFT_WIRE_VERSION | h->big_endian << 8 | h->kind << 16);
    weft_put32(p + 8, h->epoch);
    weft_put32(p + 12, h->sender);
    weft_put64(p + 16, h->round);
    weft_put32(p + 24, h->step);
    weft_put32(p + 28, h->piece);
    weft_put64(p + 32, h->bytes);
    weft_put64(p + 40, h->arg0);
    weft_put64(p + 48, h->arg1);
    weft_put32(p + 56, h->payload);
    weft_put32(p + 60, 0);
    weft_put32(p + 60, weft_crc32c(0, p, bytes));
    return bytes;
}

/* Reads and checks a control message of `bytes` bytes from rank `from`; *h is only set if all of it holds. May
 * change the checksum field. */
WEFT_FN weft_status weft_header_read(unsigned char *p, size_t bytes, uint32_t from, weft_header *h, weft_detail *d) {
    weft_header r;
    uint32_t crc, word;
    if (bytes < WEFT_HEADER_BYTES || bytes > WEFT_CONTROL_BYTES)
        return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("control message length"), WEFT_HEADER_BYTES, bytes);
    if (weft_get32(p) != WEFT_WIRE_MAGIC)
        return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("header.magic"), WEFT_WIRE_MAGIC, weft_get32(p));
    word = weft_get32(p + 4);
    if ((word & 0xFFu) != WEFT_WIRE_VERSION)
        return weft_refuse(d, WEFT_ERR_VERSION, WEFT_TEXT("header.version"), WEFT_WIRE_VERSION, word & 0xFFu);
    crc = weft_get32(p + 60);
    weft_put32(p + 60, 0);
    if (crc != weft_crc32c(0, p, bytes))
        return weft_refuse(d, WEFT_ERR_CHECKSUM, WEFT_TEXT("header.crc"), weft_crc32c(0, p, bytes), crc);
    r.big_endian = word >> 8 & 0xFFu;
    r.kind = word >> 16;
    r.epoch = weft_get32(p + 8);
    r.sender = weft_get32(p + 12);
    r.round = weft_get64(p + 16);
    r.step = weft_get32(p + 24);
    r.piece = weft_get32(p + 28);
    r.bytes = weft_get64(p + 32);
    r.arg0 = weft_get64(p + 40);
    r.arg1 = weft_get64(p + 48);
    r.payload = weft_get32(p + 56);
    if (r.big_endian > 1) return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("header.order"), 1, r.big_endian);
    if (r.kind < 1 || r.kind > WEFT_KIND_LAST)
        return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("header.kind"), WEFT_KIND_LAST, r.kind);
    if (r.sender != from) return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("header.sender"), from, r.sender);
    if (r.payload != bytes - WEFT_HEADER_BYTES)
        return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("header.payload"), bytes - WEFT_HEADER_BYTES, r.payload);
    *h = r;
    return WEFT_OK;
}
