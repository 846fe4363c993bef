/* SPDX-License-Identifier: MIT
 * trace.h: what a worker tells of its doings: counters of what it has moved, and events for a host that looks on. */
#include "base.h"
/*==== API ====*/

/* What this worker has moved. Payload: elements of tensors, and norms. Control: headers, fingerprints, HAVE, counts. */
typedef struct weft_traffic {
    uint64_t payload_sent, payload_received; /* bytes */
    uint64_t control_sent, control_received; /* bytes */
    uint64_t messages_sent, messages_received;
    uint64_t dropped; /* messages of another epoch */
} weft_traffic;

/* Trace events, of fixed size, for a host that wants to see what happens when. */
typedef enum weft_event_kind {
    WEFT_EVENT_ROUND_BEGUN = 1, /* this worker has arrived in round `round` */
    WEFT_EVENT_SENT = 2,        /* a message to `peer` is under way; value: its bytes */
    WEFT_EVENT_RECEIVED = 3,    /* a message from `peer` has come; value: its bytes */
    WEFT_EVENT_COMMITTED = 4,   /* round `round` is committed; value: workers in it */
    WEFT_EVENT_ABANDONED = 5,   /* round `round` is abandoned, parameters untouched */
    WEFT_EVENT_PEER_LOST = 6,
    WEFT_EVENT_PEER_LEFT = 7,
    WEFT_EVENT_VIEW = 8 /* a new view is agreed; value: its epoch */
} weft_event_kind;

typedef struct weft_event {
    uint32_t kind; /* weft_event_kind */
    uint32_t rank; /* of this worker */
    uint32_t peer; /* or WEFT_NO_RANK */
    uint64_t round;
    uint64_t value;
    const char *phase; /* what the worker was doing, as in weft_detail; constant text, "" with WEFT_NO_STRINGS */
} weft_event;

/* Must not call back into the object. */
typedef void (*weft_trace_fn)(void *ctx, const weft_event *event);
/*==== IMPLEMENTATION ====*/
