/* SPDX-License-Identifier: MIT
 * selftest.h: does a transport keep the contract of transport.h? To be run by whoever writes one. */
#include "base.h"
#include "transport.h"
/*==== API ====*/

/* ---- A test of your callbacks ----
 *
 * Every worker calls weft_transport_selftest with its own transport and a zeroed weft_selftest, again and again, until
 * it is no longer WEFT_AGAIN (with the transport's wait in between, if you like). The function is there in the unit
 * that defines an X_IMPLEMENTATION:
 *
 *     weft_status weft_transport_selftest(const weft_transport *net, weft_selftest *state, uint32_t channel,
 *                                         weft_selftest_report *report);    // report: may be NULL
 *
 * `channel` may be that of an object, before the object's first message or after its last: whoever is through with the
 * test may begin at once, even while others are still in it.
 *
 *     static weft_selftest state;
 *     weft_selftest_report report;
 *     while ((s = weft_transport_selftest(&net, &state, 0, &report)) == WEFT_AGAIN) continue;
 *     if (s != WEFT_OK) printf("%s (peer %u, tag %u)\n", report.text, report.peer, report.tag);
 *
 * WEFT_OK: every rule below holds, with every peer. Otherwise the report names the rule that is broken, and this worker
 * has cancelled what it had under way; the others then find no progress. If the transport has a clock, a breach that
 * makes the test stand still is found too, after timeout_ns (so wait no longer than that). What cannot be seen from
 * here: callbacks that block, loss of peers, and calls on several threads. */

typedef enum weft_selftest_rule {
    WEFT_RULE_NONE = 0,
    WEFT_RULE_CALLBACKS,   /* the struct is filled in */
    WEFT_RULE_FAILED,      /* a callback failed: report.status */
    WEFT_RULE_STATUS,      /* callbacks return WEFT_OK, errors, and (test only) WEFT_AGAIN, nothing else */
    WEFT_RULE_PROGRESS,    /* a send and a receive that fit each other get over */
    WEFT_RULE_CONTENT,     /* bytes arrive as they were sent */
    WEFT_RULE_ORDER,       /* the n-th message matches the n-th receive of a peer and tag */
    WEFT_RULE_ONCE,        /* a receive stays pending while there is no message for it; no message comes twice */
    WEFT_RULE_TAGS,        /* messages go by their tag, up to the last of the channel */
    WEFT_RULE_PEERS,       /* messages go by their sender */
    WEFT_RULE_LONGER,      /* a receive longer than its message tells the length */
    WEFT_RULE_SHORTER,     /* a shorter one ends in WEFT_ERR_TRUNCATED and tells the length of the message */
    WEFT_RULE_ZERO,        /* zero bytes are a message */
    WEFT_RULE_LARGE,       /* so is one of max_message_bytes, or what the given memory holds */
    WEFT_RULE_PENDING,     /* a pending send blocks no other tag and no receive */
    WEFT_RULE_PENDING_PEER,/* and no other peer */
    WEFT_RULE_REUSE,       /* when a send is over, its buffer may be written without harm to the message */
    WEFT_RULE_SEND_BUFFER, /* a transport does not write into the buffer of a send */
    WEFT_RULE_BOUNDS,      /* nor outside of that of a receive, nor beside a request */
    WEFT_RULE_CANCEL_RECV, /* a cancelled receive takes no message with it that comes later */
    WEFT_RULE_CANCEL_TOUCH,/* and its buffer is not touched any more */
    WEFT_RULE_CANCEL_SEND, /* a cancelled send is delivered wholly or not at all; one that is over is delivered */
    WEFT_RULE_TIME,        /* now does not go back */
    WEFT_RULE_ALL_REDUCE,  /* the optional all_reduce adds up, under its weights */
    WEFT_RULE_SUM_INPUT,   /* and does not write its input */
    WEFT_RULE_SUM_COUNT    /* and tells how many elements are not finite, or UINT64_MAX */
} weft_selftest_rule;

typedef struct weft_selftest_report {
    weft_status status;      /* WEFT_OK, or what the test returned */
    weft_selftest_rule rule; /* the rule that is broken */
    const char *text;        /* its text; static */
    uint32_t peer, tag;      /* where; WEFT_NO_RANK where it does not apply */
    uint64_t expected, got;  /* lengths, bytes, or statuses (as 32 bits); got WEFT_AGAIN: no progress */
    uint32_t step;           /* of the test's program, for whoever reads it */
    uint64_t checks;         /* made until then */
} weft_selftest_report;

#define WEFT_SELFTEST_BYTES 256u
#define WEFT_SELFTEST_EDGE 16u

typedef struct weft_selftest_slot {
    uint64_t guard_before;
    weft_request request;
    uint64_t guard_after;
    unsigned char *at; /* payload; WEFT_SELFTEST_EDGE guard bytes before and after its room */
    size_t room;
    size_t length; /* of the payload, or capacity */
    uint32_t peer, tag, seed;
    uint32_t state;
    unsigned char own[WEFT_SELFTEST_EDGE + WEFT_SELFTEST_BYTES + WEFT_SELFTEST_EDGE];
} weft_selftest_slot;

#define WEFT_SELFTEST_SLOTS 14

/* Zero it. The first three may then be set, to the same on every worker. It must not move while the test runs. */
typedef struct weft_selftest {
    void *memory;        /* for the test of large messages (NULL: none): half for sending, half for receiving */
    size_t memory_bytes;
    uint64_t timeout_ns; /* without any progress; 0: ten seconds. Needs the transport's now */

    uint32_t started, shift, step, stage, sync;
    uint32_t channel;
    int seen_cancelled, tried_over;
    uint64_t checks, last_now, progress_now;
    weft_selftest_report report;
    weft_selftest_slot slot[WEFT_SELFTEST_SLOTS];
} weft_selftest;
/*==== IMPLEMENTATION ====*/

WEFT_FN const char *weft_selftest_text(weft_selftest_rule rule) {
#ifdef WEFT_NO_STRINGS
    (void)rule;
    return "";
#else
    switch (rule) {
    case WEFT_RULE_NONE: return "the contract is kept";
    case WEFT_RULE_CALLBACKS: return "the transport is not filled in";
    case WEFT_RULE_FAILED: return "a callback failed";
    case WEFT_RULE_STATUS: return "a callback returned what it must not";
    case WEFT_RULE_PROGRESS: return "a send and a receive that fit each other must get over";
    case WEFT_RULE_CONTENT: return "bytes did not arrive as they were sent";
    case WEFT_RULE_ORDER: return "the n-th message must match the n-th receive of a peer and tag";
    case WEFT_RULE_ONCE: return "a receive must stay pending without a message, and no message come twice";
    case WEFT_RULE_TAGS: return "messages must go by their tag";
    case WEFT_RULE_PEERS: return "messages must go by their sender";
    case WEFT_RULE_LONGER: return "a receive longer than its message must tell the length";
    case WEFT_RULE_SHORTER: return "a receive shorter than its message must end in WEFT_ERR_TRUNCATED with its length";
    case WEFT_RULE_ZERO: return "zero bytes are a message";
    case WEFT_RULE_LARGE: return "a large message must arrive";
    case WEFT_RULE_PENDING: return "a pending send must not block other tags or receives";
    case WEFT_RULE_PENDING_PEER: return "a pending send must not block other peers";
    case WEFT_RULE_REUSE: return "a send that is over must not read its buffer any more";
    case WEFT_RULE_SEND_BUFFER: return "a transport must not write into the buffer of a send";
    case WEFT_RULE_BOUNDS: return "nothing outside of the posted buffer or beside the request may be written";
    case WEFT_RULE_CANCEL_RECV: return "a cancelled receive must not take a later message with it";
    case WEFT_RULE_CANCEL_TOUCH: return "the buffer of a cancelled receive must not be touched any more";
    case WEFT_RULE_CANCEL_SEND: return "a cancelled send is delivered wholly or not at all";
    case WEFT_RULE_TIME: return "now must not go back";
    case WEFT_RULE_ALL_REDUCE: return "all_reduce must add up, each rank's numbers times its weight";
    case WEFT_RULE_SUM_INPUT: return "all_reduce must not write its input";
    case WEFT_RULE_SUM_COUNT: return "all_reduce must tell how many elements of the sum are not finite, or not try";
    }
    return "unknown rule";
#endif
}

#define WEFT_SELFTEST_GUARD UINT64_C(0xA5A5A5A5A5A5A5A5)
#define WEFT_SELFTEST_NOISE 0xEEu /* what a send buffer is filled with when it is over */

/* The test is a small program that every worker runs once for each shift 1 .. size-1: "next" is the worker that many
 * ranks above, "prev" the one below, so that all pairs are tested in both directions, all workers at once. */
enum {
    WEFT_ST_SEND,   /* post a send of `length` bytes, message `id` */
    WEFT_ST_RECV,   /* post a receive of capacity `length` */
    WEFT_ST_GET,    /* wait for a receive: message `id` of `length` bytes */
    WEFT_ST_DONE,   /* wait for all sends */
    WEFT_ST_TRY,    /* test a send once; if it is over, overwrite its buffer */
    WEFT_ST_STILL,  /* test a receive once: it must be pending */
    WEFT_ST_CANCEL, /* cancel what is under way in the slot; overwrite the buffer */
    WEFT_ST_CLEAN,  /* the buffer of a cancelled receive is as it was left */
    WEFT_ST_MARK,   /* a send of 32 bytes, or 33 if the send tried before was over */
    WEFT_ST_EITHER, /* wait for a receive: the cancelled message `id` (then for another), or the mark after it */
    WEFT_ST_SYNC    /* both neighbours have come to this point */
};
enum { WEFT_ST_NEXT, WEFT_ST_BACK, WEFT_ST_SECOND }; /* next/prev, prev/next, the same with the shift one higher */
enum { WEFT_ST_ALWAYS, WEFT_ST_THREE, WEFT_ST_BIG };  /* only with three workers, with memory */
enum { WEFT_ST_IDLE, WEFT_ST_SENDING, WEFT_ST_RECEIVING, WEFT_ST_CANCELLED };

typedef struct weft_selftest_op {
    unsigned char what, slot, tag, id;
    unsigned short length;
    unsigned char way, when, rule;
} weft_selftest_op;

#define WEFT_SELFTEST_BIG_SEND 8
#define WEFT_SELFTEST_BIG_RECV 9
#define WEFT_SELFTEST_SYNC 10
#define WEFT_ST_SYNC_ID 256u /* above all other messages' */

/* NULL after the end. */
WEFT_FN const weft_selftest_op *weft_selftest_program(uint32_t step) {
#define WEFT_ST(what, slot, tag, id, length, way, when, rule)                                                          \
    {WEFT_ST_##what, slot, tag, id, length, WEFT_ST_##way, WEFT_ST_##when, WEFT_RULE_##rule}
    static const weft_selftest_op program[] = {
        /* receives first */
        WEFT_ST(SYNC, 0, 0, 0, 0, NEXT, ALWAYS, PROGRESS), WEFT_ST(RECV, 0, 1, 0, 96, NEXT, ALWAYS, ORDER),
        WEFT_ST(RECV, 1, 1, 0, 200, NEXT, ALWAYS, ORDER), WEFT_ST(RECV, 2, 1, 0, 5, NEXT, ALWAYS, ORDER),
        WEFT_ST(SYNC, 0, 0, 0, 0, NEXT, ALWAYS, ONCE), WEFT_ST(STILL, 0, 1, 0, 0, NEXT, ALWAYS, ONCE),
        WEFT_ST(SYNC, 0, 0, 0, 0, NEXT, ALWAYS, ONCE), WEFT_ST(SEND, 3, 1, 1, 96, NEXT, ALWAYS, ORDER),
        WEFT_ST(SEND, 4, 1, 2, 200, NEXT, ALWAYS, ORDER), WEFT_ST(SEND, 5, 1, 3, 5, NEXT, ALWAYS, ORDER),
        WEFT_ST(GET, 2, 1, 3, 5, NEXT, ALWAYS, ORDER), WEFT_ST(GET, 0, 1, 1, 96, NEXT, ALWAYS, ORDER),
        WEFT_ST(GET, 1, 1, 2, 200, NEXT, ALWAYS, ORDER), WEFT_ST(DONE, 0, 1, 0, 0, NEXT, ALWAYS, ORDER),
        /* sends first, and what is over loses its buffer */
        WEFT_ST(SEND, 3, 1, 4, 64, NEXT, ALWAYS, PENDING), WEFT_ST(SEND, 4, 1, 5, 200, NEXT, ALWAYS, PENDING),
        WEFT_ST(SEND, 5, 1, 6, 7, NEXT, ALWAYS, PENDING), WEFT_ST(TRY, 3, 1, 4, 0, NEXT, ALWAYS, REUSE),
        WEFT_ST(SYNC, 0, 0, 0, 0, NEXT, ALWAYS, PENDING), WEFT_ST(TRY, 3, 1, 4, 0, NEXT, ALWAYS, REUSE),
        WEFT_ST(TRY, 4, 1, 5, 0, NEXT, ALWAYS, REUSE), WEFT_ST(TRY, 5, 1, 6, 0, NEXT, ALWAYS, REUSE),
        WEFT_ST(SYNC, 0, 0, 0, 0, NEXT, ALWAYS, PENDING), WEFT_ST(RECV, 0, 1, 0, 64, NEXT, ALWAYS, ORDER),
        WEFT_ST(RECV, 1, 1, 0, 200, NEXT, ALWAYS, ORDER), WEFT_ST(RECV, 2, 1, 0, 7, NEXT, ALWAYS, ORDER),
        WEFT_ST(GET, 0, 1, 4, 64, NEXT, ALWAYS, ORDER), WEFT_ST(GET, 1, 1, 5, 200, NEXT, ALWAYS, ORDER),
        WEFT_ST(GET, 2, 1, 6, 7, NEXT, ALWAYS, ORDER), WEFT_ST(DONE, 0, 1, 0, 0, NEXT, ALWAYS, ORDER),
        /* tags, and both directions at once */
        WEFT_ST(SEND, 3, 1, 7, 64, NEXT, ALWAYS, TAGS), WEFT_ST(SEND, 4, 2, 8, 64, NEXT, ALWAYS, TAGS),
        WEFT_ST(SEND, 5, 3, 9, 64, NEXT, ALWAYS, TAGS), WEFT_ST(SEND, 6, 4, 10, 64, NEXT, ALWAYS, TAGS),
        WEFT_ST(RECV, 0, 4, 0, 64, NEXT, ALWAYS, TAGS), WEFT_ST(RECV, 1, 3, 0, 64, NEXT, ALWAYS, TAGS),
        WEFT_ST(RECV, 2, 2, 0, 64, NEXT, ALWAYS, TAGS), WEFT_ST(RECV, 7, 1, 0, 64, NEXT, ALWAYS, TAGS),
        WEFT_ST(GET, 0, 4, 10, 64, NEXT, ALWAYS, TAGS), WEFT_ST(GET, 1, 3, 9, 64, NEXT, ALWAYS, TAGS),
        WEFT_ST(GET, 2, 2, 8, 64, NEXT, ALWAYS, TAGS), WEFT_ST(GET, 7, 1, 7, 64, NEXT, ALWAYS, TAGS),
        WEFT_ST(DONE, 0, 1, 0, 0, NEXT, ALWAYS, TAGS), WEFT_ST(SEND, 3, 1, 11, 64, NEXT, ALWAYS, PEERS),
        WEFT_ST(SEND, 4, 1, 12, 64, BACK, ALWAYS, PEERS), WEFT_ST(RECV, 0, 1, 0, 64, NEXT, ALWAYS, PEERS),
        WEFT_ST(RECV, 1, 1, 0, 64, BACK, ALWAYS, PEERS), WEFT_ST(GET, 1, 1, 12, 64, BACK, ALWAYS, PEERS),
        WEFT_ST(GET, 0, 1, 11, 64, NEXT, ALWAYS, PEERS), WEFT_ST(DONE, 0, 1, 0, 0, NEXT, ALWAYS, PEERS),
        /* sizes, receives first */
        WEFT_ST(RECV, 0, 1, 0, 256, NEXT, ALWAYS, LONGER), WEFT_ST(RECV, 1, 1, 0, 40, NEXT, ALWAYS, SHORTER),
        WEFT_ST(RECV, 2, 1, 0, 256, NEXT, ALWAYS, ZERO), WEFT_ST(RECV, 7, 1, 0, 256, NEXT, ALWAYS, LARGE),
        WEFT_ST(SYNC, 0, 0, 0, 0, NEXT, ALWAYS, PENDING), WEFT_ST(SEND, 3, 1, 13, 100, NEXT, ALWAYS, LONGER),
        WEFT_ST(SEND, 4, 1, 14, 101, NEXT, ALWAYS, SHORTER), WEFT_ST(SEND, 5, 1, 15, 0, NEXT, ALWAYS, ZERO),
        WEFT_ST(SEND, 6, 1, 16, 256, NEXT, ALWAYS, LARGE), WEFT_ST(GET, 0, 1, 13, 100, NEXT, ALWAYS, LONGER),
        WEFT_ST(GET, 1, 1, 14, 101, NEXT, ALWAYS, SHORTER), WEFT_ST(GET, 2, 1, 15, 0, NEXT, ALWAYS, ZERO),
        WEFT_ST(GET, 7, 1, 16, 256, NEXT, ALWAYS, LARGE), WEFT_ST(DONE, 0, 1, 0, 0, NEXT, ALWAYS, ZERO),
        /* sizes, sends first */
        WEFT_ST(SEND, 3, 4, 17, 100, NEXT, ALWAYS, LONGER), WEFT_ST(SEND, 4, 4, 18, 101, NEXT, ALWAYS, SHORTER),
        WEFT_ST(SEND, 5, 4, 19, 0, NEXT, ALWAYS, ZERO), WEFT_ST(SEND, 6, 4, 20, 256, NEXT, ALWAYS, LARGE),
        WEFT_ST(SYNC, 0, 0, 0, 0, NEXT, ALWAYS, PENDING), WEFT_ST(RECV, 0, 4, 0, 256, NEXT, ALWAYS, LONGER),
        WEFT_ST(RECV, 1, 4, 0, 40, NEXT, ALWAYS, SHORTER), WEFT_ST(RECV, 2, 4, 0, 256, NEXT, ALWAYS, ZERO),
        WEFT_ST(RECV, 7, 4, 0, 256, NEXT, ALWAYS, LARGE), WEFT_ST(GET, 0, 4, 17, 100, NEXT, ALWAYS, LONGER),
        WEFT_ST(GET, 1, 4, 18, 101, NEXT, ALWAYS, SHORTER), WEFT_ST(GET, 2, 4, 19, 0, NEXT, ALWAYS, ZERO),
        WEFT_ST(GET, 7, 4, 20, 256, NEXT, ALWAYS, LARGE), WEFT_ST(DONE, 0, 1, 0, 0, NEXT, ALWAYS, ZERO),
        /* a receive cancelled between two others */
        WEFT_ST(RECV, 0, 3, 0, 256, NEXT, ALWAYS, CANCEL_RECV), WEFT_ST(RECV, 1, 3, 0, 256, NEXT, ALWAYS, CANCEL_RECV),
        WEFT_ST(RECV, 2, 3, 0, 256, NEXT, ALWAYS, CANCEL_RECV), WEFT_ST(CANCEL, 1, 3, 0, 0, NEXT, ALWAYS, CANCEL_RECV),
        WEFT_ST(SYNC, 0, 0, 0, 0, NEXT, ALWAYS, CANCEL_RECV), WEFT_ST(SEND, 3, 3, 21, 99, NEXT, ALWAYS, CANCEL_RECV),
        WEFT_ST(SEND, 4, 3, 22, 98, NEXT, ALWAYS, CANCEL_RECV), WEFT_ST(GET, 0, 3, 21, 99, NEXT, ALWAYS, CANCEL_RECV),
        WEFT_ST(GET, 2, 3, 22, 98, NEXT, ALWAYS, CANCEL_RECV), WEFT_ST(DONE, 0, 1, 0, 0, NEXT, ALWAYS, CANCEL_RECV),
        WEFT_ST(CLEAN, 1, 3, 0, 0, NEXT, ALWAYS, CANCEL_TOUCH),
        /* a cancelled send */
        WEFT_ST(SEND, 3, 2, 23, 48, NEXT, ALWAYS, CANCEL_SEND), WEFT_ST(TRY, 3, 2, 23, 0, NEXT, ALWAYS, CANCEL_SEND),
        WEFT_ST(CANCEL, 3, 2, 0, 0, NEXT, ALWAYS, CANCEL_SEND), WEFT_ST(SYNC, 0, 0, 0, 0, NEXT, ALWAYS, CANCEL_SEND),
        WEFT_ST(MARK, 4, 2, 24, 32, NEXT, ALWAYS, CANCEL_SEND), WEFT_ST(RECV, 0, 2, 0, 256, NEXT, ALWAYS, CANCEL_SEND),
        WEFT_ST(EITHER, 0, 2, 23, 48, NEXT, ALWAYS, CANCEL_SEND), WEFT_ST(DONE, 0, 1, 0, 0, NEXT, ALWAYS, CANCEL_SEND),
        /* nothing is left over: whatever came twice would show here */
        WEFT_ST(RECV, 0, 1, 0, 256, NEXT, ALWAYS, ONCE), WEFT_ST(RECV, 1, 2, 0, 256, NEXT, ALWAYS, ONCE),
        WEFT_ST(RECV, 2, 3, 0, 256, NEXT, ALWAYS, ONCE), WEFT_ST(RECV, 7, 4, 0, 256, NEXT, ALWAYS, ONCE),
        WEFT_ST(SYNC, 0, 0, 0, 0, NEXT, ALWAYS, ONCE), WEFT_ST(STILL, 0, 1, 0, 0, NEXT, ALWAYS, ONCE),
        WEFT_ST(STILL, 1, 2, 0, 0, NEXT, ALWAYS, ONCE), WEFT_ST(STILL, 2, 3, 0, 0, NEXT, ALWAYS, ONCE),
        WEFT_ST(STILL, 7, 4, 0, 0, NEXT, ALWAYS, ONCE), WEFT_ST(CANCEL, 0, 1, 0, 0, NEXT, ALWAYS, CANCEL_RECV),
        WEFT_ST(CANCEL, 1, 2, 0, 0, NEXT, ALWAYS, CANCEL_RECV), WEFT_ST(CANCEL, 2, 3, 0, 0, NEXT, ALWAYS, CANCEL_RECV),
        WEFT_ST(CANCEL, 7, 4, 0, 0, NEXT, ALWAYS, CANCEL_RECV), WEFT_ST(SYNC, 0, 0, 0, 0, NEXT, ALWAYS, CANCEL_RECV),
        WEFT_ST(CLEAN, 0, 1, 0, 0, NEXT, ALWAYS, CANCEL_TOUCH), WEFT_ST(CLEAN, 1, 2, 0, 0, NEXT, ALWAYS, CANCEL_TOUCH),
        WEFT_ST(CLEAN, 2, 3, 0, 0, NEXT, ALWAYS, CANCEL_TOUCH), WEFT_ST(CLEAN, 7, 4, 0, 0, NEXT, ALWAYS, CANCEL_TOUCH),
        /* two peers, one tag; then a send that stays pending until the other peer has been served */
        WEFT_ST(SEND, 3, 1, 25, 64, NEXT, THREE, PEERS), WEFT_ST(SEND, 4, 1, 26, 64, SECOND, THREE, PEERS),
        WEFT_ST(RECV, 1, 1, 0, 64, SECOND, THREE, PEERS), WEFT_ST(RECV, 0, 1, 0, 64, NEXT, THREE, PEERS),
        WEFT_ST(GET, 0, 1, 25, 64, NEXT, THREE, PEERS), WEFT_ST(GET, 1, 1, 26, 64, SECOND, THREE, PEERS),
        WEFT_ST(DONE, 0, 1, 0, 0, NEXT, THREE, PEERS), WEFT_ST(SEND, 3, 2, 27, 64, NEXT, THREE, PENDING_PEER),
        WEFT_ST(SEND, 4, 1, 28, 64, SECOND, THREE, PENDING_PEER),
        WEFT_ST(RECV, 1, 1, 0, 64, SECOND, THREE, PENDING_PEER),
        WEFT_ST(GET, 1, 1, 28, 64, SECOND, THREE, PENDING_PEER), WEFT_ST(RECV, 0, 2, 0, 64, NEXT, THREE, PENDING_PEER),
        WEFT_ST(GET, 0, 2, 27, 64, NEXT, THREE, PENDING_PEER), WEFT_ST(DONE, 0, 1, 0, 0, NEXT, THREE, PENDING_PEER),
        /* a large message, pending for a while */
        WEFT_ST(SEND, 8, 1, 29, 0, NEXT, BIG, LARGE), WEFT_ST(SYNC, 0, 0, 0, 0, NEXT, BIG, PENDING),
        WEFT_ST(RECV, 9, 1, 0, 0, NEXT, BIG, LARGE), WEFT_ST(GET, 9, 1, 29, 0, NEXT, BIG, LARGE),
        WEFT_ST(DONE, 0, 1, 0, 0, NEXT, BIG, LARGE), WEFT_ST(SYNC, 0, 0, 0, 0, NEXT, ALWAYS, ORDER)};
#undef WEFT_ST
    return step < sizeof program / sizeof program[0] ? &program[step] : NULL;
}

WEFT_FN unsigned char weft_selftest_byte(uint32_t seed, size_t k) {
    uint32_t x = (seed ^ (uint32_t)k) * 0x9E3779B1u;
    x = (x ^ x >> 15) * 0x85EBCA6Bu;
    return (unsigned char)(x >> 24);
}

WEFT_FN uint32_t weft_selftest_seed(uint32_t src, uint32_t dst, uint32_t id, uint32_t shift) {
    return src * 0x27D4EB2Fu + dst * 0x165667B1u + id * 0xC2B2AE3Du + shift * 0x9E3779B1u;
}

/* The tags in use: they differ in their low and in their high bits, and the last is the channel's last. */
WEFT_FN uint32_t weft_selftest_tag(const weft_selftest *st, uint32_t tag) {
    static const uint16_t of[7] = {0, 1, 257, 1025, WEFT_TAGS_PER_CHANNEL - 1, 2, 3};
    return st->channel * WEFT_TAGS_PER_CHANNEL + of[tag];
}

/* The test is over, badly: nothing of it stays under way. */
WEFT_FN weft_status weft_selftest_fail(const weft_transport *t, weft_selftest *st, weft_status status,
                                       weft_selftest_rule rule, const weft_selftest_slot *at, uint64_t expected,
                                       uint64_t got) {
    uint32_t i;
    st->report.status = status;
    st->report.rule = rule;
    st->report.text = weft_selftest_text(rule);
    st->report.peer = at ? at->peer : WEFT_NO_RANK;
    st->report.tag = at ? at->tag : WEFT_NO_RANK;
    st->report.expected = expected;
    st->report.got = got;
    st->report.step = st->step;
    st->report.checks = st->checks;
    for (i = 0; i < WEFT_SELFTEST_SLOTS; i++)
        if (st->slot[i].state == WEFT_ST_SENDING || st->slot[i].state == WEFT_ST_RECEIVING) {
            st->slot[i].state = WEFT_ST_IDLE;
            t->cancel(t->ctx, &st->slot[i].request);
        }
    return status;
}

/* What was found is not what the rule says. */
WEFT_FN weft_status weft_selftest_broken(const weft_transport *t, weft_selftest *st, weft_selftest_rule rule,
                                         const weft_selftest_slot *at, uint64_t expected, uint64_t got) {
    return weft_selftest_fail(t, st, WEFT_ERR_TRANSPORT, rule, at, expected, got);
}

WEFT_FN void weft_selftest_fill(weft_selftest_slot *s, unsigned char with) {
    memset(s->at - WEFT_SELFTEST_EDGE, with, s->room + 2 * WEFT_SELFTEST_EDGE);
}

/* Is everything outside of the first `inside` bytes of the payload still the guard byte? */
WEFT_FN int weft_selftest_edges(const weft_selftest_slot *s, size_t inside, unsigned char guard) {
    const unsigned char *p = s->at - WEFT_SELFTEST_EDGE;
    size_t k, n = s->room + 2 * WEFT_SELFTEST_EDGE;
    for (k = 0; k < n; k++)
        if ((k < WEFT_SELFTEST_EDGE || k >= WEFT_SELFTEST_EDGE + inside) && p[k] != guard) return 0;
    return s->guard_before == WEFT_SELFTEST_GUARD && s->guard_after == WEFT_SELFTEST_GUARD;
}

/* The first byte that is not as message `seed` says, or n. */
WEFT_FN size_t weft_selftest_compare(const weft_selftest_slot *s, uint32_t seed, size_t n) {
    size_t k;
    for (k = 0; k < n && s->at[k] == weft_selftest_byte(seed, k); k++) continue;
    return k;
}

WEFT_FN weft_status weft_selftest_post(const weft_transport *t, weft_selftest *st, uint32_t slot, int is_send,
                                       uint32_t peer, uint32_t tag, size_t length, uint32_t seed) {
    weft_selftest_slot *s = &st->slot[slot];
    weft_status status;
    size_t k;
    memset(&s->request, 0, sizeof s->request);
    s->guard_before = s->guard_after = WEFT_SELFTEST_GUARD;
    s->length = length;
    s->peer = peer;
    s->tag = weft_selftest_tag(st, tag);
    s->seed = seed;
    weft_selftest_fill(s, 0xA5);
    if (is_send)
        for (k = 0; k < length; k++) s->at[k] = weft_selftest_byte(seed, k);
    status = is_send ? t->send(t->ctx, peer, s->tag, s->at, length, &s->request)
                     : t->recv(t->ctx, peer, s->tag, s->at, length, &s->request);
    st->checks++;
    if (status < 0) return weft_selftest_fail(t, st, status, WEFT_RULE_FAILED, s, WEFT_OK, weft_status_value(status));
    s->state = is_send ? WEFT_ST_SENDING : WEFT_ST_RECEIVING;
    if (status != WEFT_OK) return weft_selftest_broken(t, st, WEFT_RULE_STATUS, s, WEFT_OK, weft_status_value(status));
    return WEFT_OK;
}

/* Tests a request: WEFT_AGAIN, or WEFT_OK with what came out in `over`, or the test has failed. */
WEFT_FN weft_status weft_selftest_look(const weft_transport *t, weft_selftest *st, weft_selftest_slot *s,
                                       weft_status *over) {
    weft_status status = t->test(t->ctx, &s->request);
    size_t k;
    if (status == WEFT_AGAIN) return WEFT_AGAIN;
    if (status > 0) return weft_selftest_broken(t, st, WEFT_RULE_STATUS, s, WEFT_AGAIN, weft_status_value(status));
    *over = status;
    st->checks++;
    if (t->now) st->progress_now = t->now(t->ctx);
    if (s->state == WEFT_ST_RECEIVING) {
        s->state = WEFT_ST_IDLE;
        if (status != WEFT_OK && status != WEFT_ERR_TRUNCATED)
            return weft_selftest_fail(t, st, status, WEFT_RULE_FAILED, s, WEFT_OK, weft_status_value(status));
        if (!weft_selftest_edges(s, s->length, 0xA5)) return weft_selftest_broken(t, st, WEFT_RULE_BOUNDS, s, 0, 1);
        return WEFT_OK;
    }
    s->state = WEFT_ST_IDLE;
    if (status != WEFT_OK)
        return weft_selftest_fail(t, st, status, WEFT_RULE_FAILED, s, WEFT_OK, weft_status_value(status));
    k = weft_selftest_compare(s, s->seed, s->length);
    if (k < s->length)
        return weft_selftest_broken(t, st, WEFT_RULE_SEND_BUFFER, s, weft_selftest_byte(s->seed, k), s->at[k]);
    if (!weft_selftest_edges(s, s->length, 0xA5)) return weft_selftest_broken(t, st, WEFT_RULE_BOUNDS, s, 0, 1);
    weft_selftest_fill(s, WEFT_SELFTEST_NOISE); /* it is ours again */
    return WEFT_OK;
}

/* Still pending. Fails if nothing has happened for too long. */
WEFT_FN weft_status weft_selftest_patience(const weft_transport *t, weft_selftest *st, weft_selftest_rule rule,
                                           const weft_selftest_slot *s) {
    uint64_t limit = st->timeout_ns ? st->timeout_ns : UINT64_C(10000000000);
    if (t->now && t->now(t->ctx) - st->progress_now > limit)
        return weft_selftest_broken(t, st, rule, s, WEFT_OK, WEFT_AGAIN);
    return WEFT_AGAIN;
}

/* Did message `id` of `length` bytes come out of a receive as it should? */
WEFT_FN weft_status weft_selftest_judge(const weft_transport *t, weft_selftest *st, const weft_selftest_slot *s,
                                        weft_selftest_rule rule, weft_status over, uint32_t id, size_t length) {
    weft_status expected = length > s->length ? WEFT_ERR_TRUNCATED : WEFT_OK;
    size_t n = length < s->length ? length : s->length, k, noise;
    uint32_t seed = weft_selftest_seed(s->peer, t->rank, id, st->shift);
    const weft_selftest_op *o;
    uint32_t step, i;
    unsigned char expected_byte;
    int known = 0;
    st->checks++;
    if (over != expected)
        return weft_selftest_broken(t, st, rule, s, weft_status_value(expected), weft_status_value(over));
    if (s->request.bytes != length) return weft_selftest_broken(t, st, rule, s, length, s->request.bytes);
    if (over == WEFT_ERR_TRUNCATED) return WEFT_OK; /* what stands in the buffer is undefined */
    k = weft_selftest_compare(s, seed, n);
    if (k == n) return WEFT_OK;
    expected_byte = weft_selftest_byte(seed, k);
    for (noise = k; noise < n && s->at[noise] == WEFT_SELFTEST_NOISE; noise++) continue;
    if (noise == n && rule != WEFT_RULE_CANCEL_SEND)
        return weft_selftest_broken(t, st, WEFT_RULE_REUSE, s, expected_byte, s->at[k]);
    if (rule == WEFT_RULE_ORDER || rule == WEFT_RULE_TAGS || rule == WEFT_RULE_PEERS) {
        /* Another message of this peer, one of another peer, or none that was ever sent? */
        for (i = 0; i < t->size && !known; i++) {
            uint32_t src = s->peer < t->size - i ? s->peer + i : s->peer - (t->size - i);
            for (step = 0; (o = weft_selftest_program(step)) != NULL && !known; step++) {
                seed = weft_selftest_seed(src, t->rank, o->id, st->shift);
                known = weft_selftest_compare(s, seed, n) == n;
            }
            for (step = 0; step <= st->sync && !known; step++) {
                seed = weft_selftest_seed(src, t->rank, WEFT_ST_SYNC_ID + step, st->shift);
                known = weft_selftest_compare(s, seed, n) == n;
            }
            if (known && i > 0) rule = WEFT_RULE_PEERS;
        }
        if (!known) rule = WEFT_RULE_CONTENT;
    }
    return weft_selftest_broken(t, st, rule, s, expected_byte, s->at[k]);
}

/* Messages of eight bytes to and from both neighbours; they carry the number of the point reached. */
WEFT_FN weft_status weft_selftest_sync(const weft_transport *t, weft_selftest *st, weft_selftest_rule rule,
                                       uint32_t next, uint32_t prev) {
    const weft_selftest_slot *stuck = NULL;
    uint32_t i;
    weft_status status;
    if (st->stage == 0) {
        st->sync++;
        for (i = 0; i < 4; i++) { /* from prev, from next, to next, to prev */
            uint32_t peer = i == 1 || i == 2 ? next : prev;
            uint32_t seed = weft_selftest_seed(t->rank, peer, WEFT_ST_SYNC_ID + st->sync, st->shift);
            status = weft_selftest_post(t, st, WEFT_SELFTEST_SYNC + i, i >= 2, peer, i % 2 == 0 ? 5 : 6, 8, seed);
            if (status != WEFT_OK) return status;
        }
        st->stage = 1;
    }
    for (i = 0; i < 4; i++) {
        weft_selftest_slot *s = &st->slot[WEFT_SELFTEST_SYNC + i];
        weft_status over = WEFT_OK;
        if (s->state == WEFT_ST_IDLE) continue;
        status = weft_selftest_look(t, st, s, &over);
        if (status == WEFT_AGAIN && !stuck) {
            stuck = s;
            /* what was sent before goes to next; the way back is another peer's */
            if (rule == WEFT_RULE_PENDING && i % 2) rule = WEFT_RULE_PENDING_PEER;
        }
        if (status == WEFT_AGAIN) continue;
        if (status != WEFT_OK) return status;
        if (i < 2) status = weft_selftest_judge(t, st, s, WEFT_RULE_ORDER, over, WEFT_ST_SYNC_ID + st->sync, 8);
        if (status != WEFT_OK) return status;
    }
    if (stuck) return weft_selftest_patience(t, st, rule, stuck);
    st->stage = 0;
    return WEFT_OK;
}

/* One step of the program: WEFT_OK when it is done. */
WEFT_FN weft_status weft_selftest_do(const weft_transport *t, weft_selftest *st, const weft_selftest_op *o) {
    weft_selftest_rule rule = (weft_selftest_rule)o->rule;
    uint32_t shift = st->shift, next, prev, i;
    weft_selftest_slot *s = &st->slot[o->slot];
    size_t length = o->length;
    weft_status status, over = WEFT_OK;
    if (o->when == WEFT_ST_THREE && t->size < 3) return WEFT_OK;
    if (o->when == WEFT_ST_BIG && !st->slot[WEFT_SELFTEST_BIG_SEND].room) return WEFT_OK;
    if (o->way == WEFT_ST_SECOND) shift = shift % (t->size - 1) + 1;
    if (o->way == WEFT_ST_BACK) shift = t->size - shift;
    next = t->size - t->rank > shift ? t->rank + shift : t->rank - (t->size - shift);
    prev = t->rank >= shift ? t->rank - shift : t->rank + (t->size - shift);
    if (o->slot == WEFT_SELFTEST_BIG_SEND || o->slot == WEFT_SELFTEST_BIG_RECV) length = s->room;
    switch (o->what) {
    case WEFT_ST_MARK:
        if (st->tried_over) length++;
        /* fall through */
    case WEFT_ST_SEND:
        st->tried_over = st->seen_cancelled = 0;
        return weft_selftest_post(t, st, o->slot, 1, next, o->tag, length,
                                  weft_selftest_seed(t->rank, next, o->id, st->shift));
    case WEFT_ST_RECV: return weft_selftest_post(t, st, o->slot, 0, prev, o->tag, length, 0);
    case WEFT_ST_GET:
        status = weft_selftest_look(t, st, s, &over);
        if (status == WEFT_AGAIN) return weft_selftest_patience(t, st, rule, s);
        return status == WEFT_OK ? weft_selftest_judge(t, st, s, rule, over, o->id, length) : status;
    case WEFT_ST_DONE:
        for (i = 0; i < WEFT_SELFTEST_SYNC; i++) {
            if (st->slot[i].state != WEFT_ST_SENDING) continue;
            status = weft_selftest_look(t, st, &st->slot[i], &over);
            if (status == WEFT_AGAIN) return weft_selftest_patience(t, st, rule, &st->slot[i]);
            if (status != WEFT_OK) return status;
        }
        return WEFT_OK;
    case WEFT_ST_TRY:
        if (s->state != WEFT_ST_SENDING) return WEFT_OK;
        status = weft_selftest_look(t, st, s, &over);
        if (status == WEFT_OK) st->tried_over = 1;
        return status == WEFT_AGAIN ? WEFT_OK : status;
    case WEFT_ST_STILL:
        status = weft_selftest_look(t, st, s, &over);
        if (status == WEFT_OK) return weft_selftest_broken(t, st, rule, s, WEFT_AGAIN, weft_status_value(over));
        return status == WEFT_AGAIN ? WEFT_OK : status;
    case WEFT_ST_CANCEL:
        if (s->state == WEFT_ST_IDLE) return WEFT_OK;
        t->cancel(t->ctx, &s->request);
        s->state = WEFT_ST_CANCELLED;
        weft_selftest_fill(s, WEFT_SELFTEST_NOISE);
        st->checks++;
        return WEFT_OK;
    case WEFT_ST_CLEAN:
        st->checks++;
        s->state = WEFT_ST_IDLE;
        if (!weft_selftest_edges(s, 0, WEFT_SELFTEST_NOISE)) return weft_selftest_broken(t, st, rule, s, 0, 1);
        return WEFT_OK;
    case WEFT_ST_EITHER:
        for (;;) {
            status = weft_selftest_look(t, st, s, &over);
            if (status == WEFT_AGAIN) return weft_selftest_patience(t, st, rule, s);
            if (status != WEFT_OK) return status;
            if (s->request.bytes != length || st->seen_cancelled) break;
            st->seen_cancelled = 1;
            status = weft_selftest_judge(t, st, s, rule, over, o->id, length);
            if (status == WEFT_OK) status = weft_selftest_post(t, st, o->slot, 0, prev, o->tag, s->length, 0);
            if (status != WEFT_OK) return status;
        }
        /* the mark: 33 bytes say that the message before it was over, so must have come */
        if (s->request.bytes == 33 && !st->seen_cancelled) return weft_selftest_broken(t, st, rule, s, length, 0);
        return weft_selftest_judge(t, st, s, rule, over, o->id + 1u, s->request.bytes == 33 ? 33 : 32);
    default: return weft_selftest_sync(t, st, rule, next, prev);
    }
}

/* The optional all_reduce, if it is there: in place with a weight of 1; then from `in` to `out`, the last rank with NaN
 * and a weight of 0; then the same with something that is not finite. */
WEFT_FN weft_status weft_selftest_optional(const weft_transport *t, weft_selftest *st) {
    weft_selftest_slot *s = &st->slot[0];
    float value[4];
    double n, expected[4];
    weft_status status;
    uint32_t i;
    uint32_t round, last;
    if (!t->all_reduce || t->size > 1024) return WEFT_OK;
    s->peer = s->tag = WEFT_NO_RANK;
    for (; st->stage < 6; st->stage++) {
        round = st->stage / 2;
        last = round && t->size > 1 && t->rank == t->size - 1;
        value[0] = (float)t->rank + 1;
        value[1] = 1.0f;
        value[2] = -2.0f;
        value[3] = round == 2 ? (float)INFINITY : 0.0f;
        if (last) value[0] = value[1] = value[2] = value[3] = (float)NAN;
        if (st->stage % 2 == 0) {
            memset(&s->request, 0, sizeof s->request);
            s->request.bytes = UINT64_MAX;
            weft_selftest_fill(s, 0xA5);
            memcpy(s->at, value, sizeof value);
            n = round ? 2.0 : 1.0;
            status = t->all_reduce(t->ctx, last ? 0.0 : n, s->at, s->at + (round ? sizeof value : 0), 4, WEFT_F32,
                                   &s->request);
            if (status < 0)
                return weft_selftest_fail(t, st, status, WEFT_RULE_FAILED, s, WEFT_OK, weft_status_value(status));
            s->state = WEFT_ST_SENDING;
            continue;
        }
        status = t->test(t->ctx, &s->request);
        if (status == WEFT_AGAIN) return weft_selftest_patience(t, st, WEFT_RULE_ALL_REDUCE, s);
        s->state = WEFT_ST_IDLE;
        if (status != WEFT_OK)
            return weft_selftest_fail(t, st, status, WEFT_RULE_FAILED, s, WEFT_OK, weft_status_value(status));
        st->checks++;
        /* an input that is not the output is as before */
        if (round && memcmp(s->at, value, sizeof value) != 0)
            return weft_selftest_broken(t, st, WEFT_RULE_SUM_INPUT, s, 0, 1);
        if (s->request.bytes != UINT64_MAX && s->request.bytes != (round == 2))
            return weft_selftest_broken(t, st, WEFT_RULE_SUM_COUNT, s, round == 2, s->request.bytes);
        n = round && t->size > 1 ? t->size - 1 : t->size; /* whose weight is not 0 */
        expected[1] = round ? 2 * n : n;
        expected[0] = expected[1] * (n + 1) / 2;
        expected[2] = -2 * expected[1];
        expected[3] = 0;
        memcpy(value, s->at + (round ? sizeof value : 0), sizeof value);
        for (i = 0; i < (round == 2 ? 3u : 4u); i++)
            if (weft_double_bits((double)value[i] + 0.0) != weft_double_bits(expected[i]))
                return weft_selftest_broken(t, st, WEFT_RULE_ALL_REDUCE, s, weft_double_bits(expected[i]),
                                            weft_double_bits((double)value[i]));
    }
    return WEFT_OK;
}

/* See the API above. report may be NULL. */
WEFT_FN weft_status weft_transport_selftest(const weft_transport *t, weft_selftest *st, uint32_t channel,
                                            weft_selftest_report *report) {
    weft_status status = WEFT_OK;
    weft_detail detail = weft_detail_none();
    uint32_t i;
    if (!st->started) {
        size_t half = st->memory ? st->memory_bytes / 2 : 0;
        for (i = 0; i < WEFT_SELFTEST_SLOTS; i++) {
            st->slot[i].at = st->slot[i].own + WEFT_SELFTEST_EDGE;
            st->slot[i].room = WEFT_SELFTEST_BYTES;
        }
        for (i = 0; i < 2; i++) {
            weft_selftest_slot *s = &st->slot[WEFT_SELFTEST_BIG_SEND + i];
            s->room = half > 2 * WEFT_SELFTEST_EDGE ? half - 2 * WEFT_SELFTEST_EDGE : 0;
            if (s->room) s->at = (unsigned char *)st->memory + i * half + WEFT_SELFTEST_EDGE;
            if (t && t->max_message_bytes && s->room > t->max_message_bytes) s->room = (size_t)t->max_message_bytes;
        }
        st->started = 1;
        st->shift = 1;
        st->channel = channel;
        st->report.status = WEFT_AGAIN;
        st->report.peer = st->report.tag = WEFT_NO_RANK;
        status = weft_transport_check(t, &detail);
        if (status == WEFT_OK && channel >= WEFT_CHANNELS)
            status = weft_refuse(&detail, WEFT_ERR_ARGUMENT, WEFT_TEXT("channel"), WEFT_CHANNELS - 1, channel);
        if (status != WEFT_OK) {
            weft_selftest_fail(t, st, status, WEFT_RULE_CALLBACKS, NULL, detail.expected, detail.got);
            st->report.text = detail.field;
        } else if (t->now) {
            st->last_now = st->progress_now = t->now(t->ctx);
        }
    }
    while (st->report.status == WEFT_AGAIN) {
        const weft_selftest_op *o = weft_selftest_program(st->step);
        if (t->now) {
            uint64_t now = t->now(t->ctx);
            if (now < st->last_now) {
                weft_selftest_broken(t, st, WEFT_RULE_TIME, NULL, st->last_now, now);
                break;
            }
            st->last_now = now;
        }
        if (st->shift >= t->size) {
            if (weft_selftest_optional(t, st) == WEFT_AGAIN) break;
            if (st->report.status == WEFT_AGAIN) weft_selftest_fail(t, st, WEFT_OK, WEFT_RULE_NONE, NULL, 0, 0);
        } else if (!o) {
            st->step = 0;
            st->shift++;
        } else if (weft_selftest_do(t, st, o) == WEFT_AGAIN) {
            break;
        } else {
            st->step++;
        }
    }
    if (report) *report = st->report;
    return st->report.status;
}
