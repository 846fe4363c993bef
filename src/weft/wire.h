/* SPDX-License-Identifier: MIT
 * wire.h: the message header, byte order, checksums. Everything that comes off the wire is read here and nowhere
 * else. */
#include "base.h"
#include "transport.h"
/*==== API ====*/

/* ---- The wire format ----
 *
 * Control messages travel on the first tag of a channel; bulk data on the others. A control message is a header of
 * 64 bytes, little-endian, and at most 192 bytes of payload. Data goes inline if it fits, else in bulk messages that
 * the control message announces; its elements are in the sender's byte order, which the header names, and a receiver
 * of another order turns them.
 *
 *   0 u32 magic 'weft'    4 u8 wire version, u8 order (1: big-endian), u16 kind   8 u32 epoch    12 u32 sender's rank
 *  16 u64 round          24 u32 step           28 u32 piece    32 u64 bytes        40 u64 argument
 *  48 u64 reserved (0)    56 u32 payload bytes in this message  60 u32 CRC-32C of the message with this field zero
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
    uint64_t round, bytes, arg0;
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

/* The header as its sixteen words. */
enum {
    WEFT_WORD_MAGIC = 0,
    WEFT_WORD_KIND = 1, /* version, order, kind */
    WEFT_WORD_EPOCH = 2,
    WEFT_WORD_SENDER = 3,
    WEFT_WORD_ROUND = 4,
    WEFT_WORD_STEP = 6,
    WEFT_WORD_PIECE = 7,
    WEFT_WORD_BYTES = 8,
    WEFT_WORD_ARG0 = 10,
    WEFT_WORD_PAYLOAD = 14,
    WEFT_WORD_CRC = 15,
    WEFT_WORDS = 16
};

WEFT_FN void weft_split(uint32_t *word, uint64_t v) {
    word[0] = (uint32_t)(v & 0xFFFFFFFFu);
    word[1] = (uint32_t)(v >> 32);
}

WEFT_FN uint64_t weft_join(const uint32_t *word) {
    return (uint64_t)word[0] | (uint64_t)word[1] << 32;
}

/* Writes the header; the payload must already stand behind it. Returns the length of the message. */
WEFT_FN size_t weft_header_write(unsigned char *p, const weft_header *h) {
    uint32_t w[WEFT_WORDS];
    size_t bytes = WEFT_HEADER_BYTES + h->payload;
    int i;
    memset(w, 0, sizeof w);
    w[WEFT_WORD_MAGIC] = WEFT_WIRE_MAGIC;
    w[WEFT_WORD_KIND] = WEFT_WIRE_VERSION | h->big_endian << 8 | h->kind << 16;
    w[WEFT_WORD_EPOCH] = h->epoch;
    w[WEFT_WORD_SENDER] = h->sender;
    weft_split(w + WEFT_WORD_ROUND, h->round);
    w[WEFT_WORD_STEP] = h->step;
    w[WEFT_WORD_PIECE] = h->piece;
    weft_split(w + WEFT_WORD_BYTES, h->bytes);
    weft_split(w + WEFT_WORD_ARG0, h->arg0);
    w[WEFT_WORD_PAYLOAD] = h->payload;
    for (i = 0; i < WEFT_WORDS; i++) weft_put32(p + 4 * i, w[i]);
    weft_put32(p + 4 * WEFT_WORD_CRC, weft_crc32c(0, p, bytes));
    return bytes;
}

/* Reads and checks a control message of `bytes` bytes from rank `from`; *h is only set if all of it holds. May change
 * the checksum field. */
WEFT_FN weft_status weft_header_read(unsigned char *p, size_t bytes, uint32_t from, weft_header *h, weft_detail *d) {
    uint32_t w[WEFT_WORDS], crc;
    weft_header r;
    int i;
    if (bytes < WEFT_HEADER_BYTES || bytes > WEFT_CONTROL_BYTES)
        return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("control length"), WEFT_HEADER_BYTES, bytes);
    for (i = 0; i < WEFT_WORDS; i++) w[i] = weft_get32(p + 4 * i);
    if (w[WEFT_WORD_MAGIC] != WEFT_WIRE_MAGIC)
        return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("header.magic"), WEFT_WIRE_MAGIC, w[WEFT_WORD_MAGIC]);
    if ((w[WEFT_WORD_KIND] & 0xFFu) != WEFT_WIRE_VERSION)
        return weft_refuse(d, WEFT_ERR_VERSION, WEFT_TEXT("header.version"), WEFT_WIRE_VERSION,
                           w[WEFT_WORD_KIND] & 0xFFu);
    weft_put32(p + 4 * WEFT_WORD_CRC, 0);
    crc = weft_crc32c(0, p, bytes);
    if (w[WEFT_WORD_CRC] != crc)
        return weft_refuse(d, WEFT_ERR_CHECKSUM, WEFT_TEXT("header.crc"), crc, w[WEFT_WORD_CRC]);
    r.big_endian = w[WEFT_WORD_KIND] >> 8 & 0xFFu;
    r.kind = w[WEFT_WORD_KIND] >> 16;
    r.epoch = w[WEFT_WORD_EPOCH];
    r.sender = w[WEFT_WORD_SENDER];
    r.round = weft_join(w + WEFT_WORD_ROUND);
    r.step = w[WEFT_WORD_STEP];
    r.piece = w[WEFT_WORD_PIECE];
    r.bytes = weft_join(w + WEFT_WORD_BYTES);
    r.arg0 = weft_join(w + WEFT_WORD_ARG0);
    r.payload = w[WEFT_WORD_PAYLOAD];
    if (r.big_endian > 1) return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("header.order"), 1, r.big_endian);
    if (r.kind < 1 || r.kind > WEFT_KIND_LAST)
        return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("header.kind"), WEFT_KIND_LAST, r.kind);
    if (r.sender != from) return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("header.sender"), from, r.sender);
    if (r.payload != bytes - WEFT_HEADER_BYTES)
        return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("header.payload"), bytes - WEFT_HEADER_BYTES, r.payload);
    *h = r;
    return WEFT_OK;
}

/* ---- Control messages under way ---- */

typedef struct weft_letter {
    weft_request request;
    int busy;
    unsigned char bytes[WEFT_CONTROL_BYTES];
} weft_letter;

/* What a peer's control receive is about. */
enum { WEFT_IN_NONE = 0, WEFT_IN_POSTED = 1, WEFT_IN_HELD = 2 };
