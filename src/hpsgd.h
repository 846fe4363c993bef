/* SPDX-License-Identifier: MIT
 * hpsgd.h: hierarchical parallel SGD (HPSGD): training goes on while the workers' changes are summed up. In plain C,
 * for training processes of any framework.
 *
 * Every worker trains a replica x of one global model W. Every few steps it hands the change of its replica,
 * D = x - W, to an all-reduce that runs beside the next steps, and puts the replica back to W. When the sum is there,
 * at a step boundary, W <- W + mean of all D: the same W on all workers, round by round. No change enters W unaveraged,
 * none is lost; it comes one round late.
 * Y. Zhou, Q. Ye, H. Zhang and J. Lv, "HPSGD: Hierarchical Parallel SGD With Stale Gradients Featuring", ICONIP 2020,
 * arXiv 2009.02701 (first as HLSGD). The steps are those of the authors' published code
 * (github.com/Soptq/Hierarchical_Local_SGD), but for its faults: a race at every barrier, gradients lost and doubled at
 * the end of an epoch. "Hierarchical" means two activities in each worker, training and synchronising, that run at
 * once; not a tree of nodes.
 *
 * ---- Quick start ----
 *
 *   #define HPSGD_IMPLEMENTATION            // in exactly one source file
 *   #include "hpsgd.h"
 *
 *   weft_tensor t[] = { {w1, n1, WEFT_F32}, {b1, n2, WEFT_F32} };    // your parameters, where they are
 *   weft_tensors params = {t, 2};
 *   weft_transport net = weft_transport_make(&my_net, rank, size, my_send, my_recv, my_test, my_cancel, my_now);
 *
 *   hpsgd_desc d = {sizeof d};              // zero is the default everywhere
 *   d.params = params; d.transport = &net; d.max_steps = 16; d.carry = 0.5;
 *   size_t bytes = hpsgd_memory(&d, NULL);  // exact; a report names every buffer
 *   hpsgd *h; weft_status s = hpsgd_init(&h, &d, malloc(bytes), bytes);
 *   if (s < 0) return fail(weft_strerror(s), NULL);
 *
 *   for (;;) {
 *       train_one_step(model);              // forward, backward, optimiser: your own, on the replica
 *       while ((s = hpsgd_step(h)) == WEFT_STALL) idle();   // the network is behind: do not step; ask again
 *       if (s < 0) return fail(weft_strerror(s), hpsgd_detail(h));
 *   }
 *   if ((s = hpsgd_drain(h)) == WEFT_AGAIN) s = hpsgd_wait(h);  // epoch end, checkpoint: the parameters are W, the
 *                                           // same on all workers
 *   if ((s = hpsgd_leave(h)) == WEFT_AGAIN) s = hpsgd_wait(h);  // a loss may show here, too: see below
 *   hpsgd_close(h);
 *
 * The five callbacks are your network, or an adapter: their rules are "The transport contract", below; set net.wait,
 * too, if it can sleep. weft_transport_selftest tries yours. After WEFT_ERR_TIMEOUT one may wait again, as long again.
 *
 * (Where {sizeof d} draws a warning about missing initialisers: {0} in C, {} in C++, and d.struct_size = sizeof d.)
 *
 * ---- After a loss ----
 *
 * When a verb says WEFT_ERR_PEER_LOST, all that are left agree outside of this header on who that is, and each gives
 * the same view under the same, higher epoch:
 *
 *   do {
 *       weft_view view = {sizeof view, ++epoch, count, ranks};      // ascending, with your own; copied
 *       if ((s = hpsgd_regroup(h, &view)) == WEFT_AGAIN) s = hpsgd_wait(h);
 *   } while (s == WEFT_ERR_PEER_LOST);          // another one (hpsgd_detail(h)->peer): once more, without it, too
 *
 * WEFT_OK: train on. The step whose verb told of the loss has been counted, and is not to be told again. A drain or a
 * leave that was under way has been carried to its end. After a drain, a loss in the leave costs nothing: close. Who
 * leaves tells whoever makes the views before its process ends: it may never have noticed a loss, and a view that names
 * it waits for it.
 *
 * ---- The verbs ----
 *
 * Call them at step boundaries only: after the optimiser has written the parameters and before the next forward pass
 * reads them. hpsgd_step says that a local step is done; it takes a result that has come into W, puts the replica on
 * the new W, and sends off what the replica has learnt. WEFT_OK: train on. WEFT_STALL: take no step, call hpsgd_step
 * again (that counts no further step) or hpsgd_wait. hpsgd_progress is for the middle of a step: it moves messages and
 * touches neither parameters nor W. hpsgd_start, hpsgd_drain, hpsgd_regroup and hpsgd_leave return WEFT_AGAIN until
 * they are done: poll or wait. An error (< 0) is explained by hpsgd_detail; a local step whose verb returned one has
 * been counted. hpsgd_state tells which verbs are legal; a wrong one is WEFT_ERR_ORDER and changes nothing. One object
 * belongs to one thread at a time. No verb allocates, prints or reads the environment.
 *
 * ---- Which verb when ----
 *
 *                             fresh    idle     stalled  busy     lost     left
 *   hpsgd_start               y        y        y        -        -        -
 *   hpsgd_step                y        y        y        -        -        -
 *   hpsgd_poll                y        y        y        y        y        y
 *   hpsgd_progress            y        y        y        y        y        y
 *   hpsgd_wait                y        y        y        y        y        y
 *   hpsgd_drain               y        y        y        y        y        -
 *   hpsgd_leave               y        y        y        -        -        -
 *   hpsgd_model               y        y        y        y        y        y
 *   hpsgd_regroup             y        y        y        y        y        -
 *   hpsgd_peer_lost           y        y        y        y        y        -
 *   hpsgd_peer_up             y        y        y        y        y        -
 *   hpsgd_save                y        y        -        -        -        -
 *   hpsgd_save_to             y        y        -        -        -        -
 *   hpsgd_load                y        -        -        -        -        -
 *   hpsgd_load_from           y        -        -        -        -        -
 *   hpsgd_set_steps           y        y        y        -        -        -
 *   hpsgd_set_void            y        y        y        y        y        -
 *
 * fresh: nothing has been called, or setters only. idle: hpsgd_step has said WEFT_OK; a round may be under way.
 * stalled: it has said WEFT_STALL. busy: start, drain, regroup or leave has returned WEFT_AGAIN (here a drain:
 * hpsgd_drain is then a poll). lost: a worker is lost and the view is not settled. left: hpsgd_leave is done. A dash
 * is WEFT_ERR_ORDER and changes nothing; hpsgd_state tells the same in bits. The readers (stats, effective, detail,
 * state) and hpsgd_close are legal in all; after close nothing is.
 *
 * ---- Threads and callbacks ----
 *
 * One object belongs to one thread at a time; any number of objects may live in a process, each with a `channel` of
 * its own on a shared transport. Transport callbacks and `trace` are called by the thread that called the verb, from
 * within it; or, with a pool that has `submit`, by one of its threads, one at a time (see BESIDE below), so that they
 * must be ready for another thread than yours. A callback that calls a verb of its object gets WEFT_ERR_REENTRY where
 * it is your thread, and must not where it is not. Callbacks must return: only `wait` may sleep.
 *
 * ---- Errors, and what to do ----
 *
 * WEFT_ERR_, all below 0; hpsgd_detail names peer, phase, field and both values.
 *
 *   ARGUMENT, ABI, MEMORY, OVERFLOW             a descriptor or an argument is wrong: detail.field names it, with what
 *                                               is expected and what was got; nothing has happened
 *   FLOAT_ENV, UNSUPPORTED                      of init: floats are not computed as they must be, or the setting does
 *                                               not exist here
 *   ORDER, REENTRY                              a dash of the table; a verb called from its own callback; nothing has
 *                                               happened
 *   PEER_LOST                                   a member is gone (detail.peer): hpsgd_regroup with the same new view
 *                                               on all that are left, then poll on
 *   PROTOCOL, TRUNCATED, CHECKSUM, TRANSPORT    a message made no sense, or a callback failed: every verb that
 *                                               communicates says so from now on, until hpsgd_regroup (without whoever
 *                                               it was), or hpsgd_close
 *   TIMEOUT                                     nothing has moved for timeout_ns: poll on, or tell of a loss
 *                                               (hpsgd_peer_lost)
 *   MISMATCH, VERSION                           a worker has other settings, or another version of this header: detail
 *                                               has both values; no number has been mixed. Mend it and begin anew
 *   NONFINITE                                   of start: initial parameters that are not finite. Later ones only void
 *                                               their round (stats)
 *   CAPACITY                                    of save: detail.expected bytes are needed
 *   ARGUMENT, VERSION, CHECKSUM, MISMATCH       of load: no blob, a damaged one, or one of other settings; the object
 *                                               is as before
 *
 * ---- When a round happens ----
 *
 * HPSGD_FREE (default): whenever the last round is over and min_steps (1) are done. If max_steps (16) are done and it
 *   is not over, WEFT_STALL. As many steps a round as fit into one all-reduce; timing decides, no two runs are alike.
 *   With a network without delay this is synchronous SGD.
 * HPSGD_FIXED: every max_steps steps. A result is taken in at the end of the phase, never before: the same bits in
 *   every run, whatever the network does, if hpsgd_start was over before the first step (else the first phase lasts
 *   until all have met).
 * HPSGD_BLOCKING: every min_steps steps, and the worker waits for the result: local SGD with H = min_steps; with 1,
 *   synchronous SGD.
 *
 * ---- carry: three methods in one ----
 *
 * The next phase begins at W + carry * D, D being the worker's own change that is still under way: 0 is HPSGD as
 * published, 1 / N "eager" updates, 1 CoCoD-SGD. With curvature h, step size eta and s steps a phase let
 * c = 1 - (1 - eta h)^s: errors shrink by the roots of z^2 - (1 - c carry) z + c (1 - carry). carry = 0 does not
 * converge where c comes near 1 and diverges beyond: keep eta h max_steps below 0.5 with it. Measured (4 workers,
 * perceptron on images, each at its best step size, loss after equal time): with data alike on all workers carry = 0.5
 * is ahead of 0 and of synchronous SGD on every network, by 0.05 where an all-reduce takes one step, by 0.31 where it
 * takes eight. With one-sided data (Dirichlet 0.1) it is ahead from four steps on; on faster networks 0 is, and where
 * an all-reduce takes a step or less synchronous SGD is as good or better.
 *
 * ---- Extra memory ----
 *
 * W, one payload, and the room in which the sum is formed: three copies of the parameters, with your own four. The
 * payload is your own change, kept until the round is over: it makes requeue, carry and saving in flight possible.
 * keep_delta = WEFT_ZERO gives it up: the sum is then formed in place, payloads above 256 KB a 32nd at a time: two
 * copies and a 32nd. With a bf16 payload, two bytes instead of four for payload and sum. Payloads of up to 8 KB take a
 * copy a worker for the sum. hpsgd_memory names every buffer.
 *
 * With P the bytes of the parameters (each tensor rounded up to 64), on 64-bit machines, without a pool: 3 P + 2.3 KB
 * N + 2.5 KB; without keep_delta 2 P + P / 32 for payloads above 256 KB.
 *
 * ---- On the wire ----
 *
 * A round moves 2 (N-1)/N times the payload per worker (up to 8 KB, N-1 times), in about six messages to each peer;
 * divide by the steps of a round. Without keep_delta every 32nd is a reduction of its own. HPSGD_PAYLOAD_BF16 halves
 * the bytes: what rounding takes from a change stays in the replica and is part of the next one, so that nothing is
 * lost. The sum is rounded once more, alike for all (WEFT_ALGORITHM_RING and _DOUBLING: at every hop). A drain sends
 * what is left over in a few rounds more.
 *
 * ---- With your trainer ----
 *
 * learning rate     as for one worker: a phase of s steps moves W about as far as s local steps. No scaling with N.
 * momentum          local momentum sees gradients of a path that is thrown back; with carry = 0 it does harm (in our
 *                   simulations worse than none), with carry 0.5 or 1 less so. Adam: legal, untried.
 * evaluation        of W, not of the replica: hpsgd_model copies it out; after a drain both are the same.
 * BatchNorm         statistics are not parameters: they stay local. Average them over the workers at a drain.
 * 16-bit weights    x - W would round small steps away, so bf16 and f16 parameters are refused, unless `master` names
 *                   the f32 weights that the optimiser steps on; the 16-bit ones are then written whenever W moves x.
 * weight decay, clipping, schedules    your own. A skipped step (loss scaling): call hpsgd_step or not, as you like.
 * tied weights      list the tensor once; listing the same memory twice is refused.
 * BESIDE            with a pool that has `submit` rounds are driven on one of its threads while you train (not where
 *                   you wait for them, as in HPSGD_BLOCKING); in HPSGD_FIXED with the same bits. The transport and
 *                   trace are then called there, by one thread at a time: they must call no verb, which is not found
 *                   out there. The thread is taken for a whole round and calls the pool's parallel_for, as yours may
 *                   at the same time. `polling` = 1: at your step boundaries (and hpsgd_progress) only.
 *
 * ---- What is guaranteed when things fail ----
 *
 * A round is done or void, by the same decision on all workers, and W is untouched until it is done. Crash-stop faults:
 * a lost worker shows as WEFT_ERR_PEER_LOST; the host gives every survivor the same new view with a higher epoch,
 * hpsgd_regroup, and polls: if any survivor had the round done, it is done for all; else it is void. The change of a
 * void round goes back into the replica (HPSGD_REQUEUE) or is dropped and counted (steps_lost). The divisor is the
 * number of workers in the round, never a constant. A sum that is not finite voids its round by itself, alike for all;
 * the worker that caused it goes back to W and loses its steps. A worker that comes later takes over W; whoever was
 * left out of a view in between must come as a new object, else WEFT_ERR_MISMATCH. Initial parameters that are not
 * finite are refused; if W overflows later, every round after that is void, and counted.
 *
 * ---- What is assumed of the host ----
 *
 * For each (peer, tag) the transport delivers exactly once, in order, and undamaged; a lost peer is an error or a call
 * of hpsgd_peer_lost, the same for all survivors sooner or later; a worker that is declared lost sends no more (or as
 * a newcomer). `now` does not go back. The memory given, tensor lists and transport stay where they are until
 * hpsgd_close. Float arithmetic is IEEE 754, rounding to nearest, without flushing (checked at init). All of it is
 * tested by weft_transport_selftest as far as a test can tell. Who is left after a loss is agreed on outside of this
 * header (by a launcher, a coordinator, or weft_members.h of the repository): hpsgd_regroup wants the same members
 * under the same epoch on all of them. It copies the view.
 *
 * ---- History ----
 *
 * 0.1.0 the first version. A minor version may change API, messages and blobs, a patch none of them; all workers of a
 * job run one version (CHANGELOG.md of the repository). */
#include "weft/base.h"
#include "weft/tensor.h"
#include "weft/kernels.h"
#include "weft/pool.h"
#include "weft/transport.h"
#include "weft/selftest.h"
#include "weft/wire.h"
#include "weft/device.h"
#include "weft/sixteen.h"
#include "weft/replica.h"
#include "weft/trace.h"
#include "weft/group.h"
#include "weft/collective.h"
#include "weft/state.h"
/*==== API ====*/

#ifndef HPSGD_API
#ifdef HPSGD_STATIC
#define HPSGD_API static WEFT_UNUSED
#elif defined __cplusplus
#define HPSGD_API extern "C"
#else
#define HPSGD_API extern
#endif
#endif

typedef struct hpsgd hpsgd;

typedef enum hpsgd_mode { HPSGD_FREE = 0, HPSGD_FIXED = 1, HPSGD_BLOCKING = 2 } hpsgd_mode;

typedef enum hpsgd_payload {
    HPSGD_PAYLOAD_FULL = 0, /* changes travel in the type of the parameters */
    HPSGD_PAYLOAD_BF16 = 1  /* f32 parameters only */
} hpsgd_payload;

/* What becomes of this worker's change when its round is void. */
typedef enum hpsgd_void {
    HPSGD_REQUEUE = 0, /* back into the replica; needs keep_delta, without it: HPSGD_DROP */
    HPSGD_DROP = 1     /* dropped; counted in steps_lost */
} hpsgd_void;

/* What a change that is not finite does. Either way that worker's replica goes back to W and its steps are lost. */
typedef enum hpsgd_guard {
    HPSGD_GUARD_VOID = 0, /* it makes the sum so, and all see the round void */
    HPSGD_GUARD_SKIP = 1  /* the worker sends zeros instead (and counts in the divisor) */
} hpsgd_guard;

/* How the workers' initial parameters are settled at first contact. */
typedef enum hpsgd_initial {
    HPSGD_INITIAL_CHECK = 0, /* hashes must agree, else WEFT_ERR_MISMATCH with both */
    HPSGD_INITIAL_COPY = 1   /* everyone takes over those of initial_rank; steps taken before are lost */
} hpsgd_initial;

/* What the replica does at the very first launch. */
typedef enum hpsgd_startup {
    HPSGD_ROLL_BACK = 0, /* as at every other */
    HPSGD_CONTINUE = 1   /* goes on where it is, as the published code does: carry = 1 once */
} hpsgd_startup;

/* Everything hpsgd_init wants to know. Fill struct_size, params and transport; zero is the default of every other
 * field. Pointers are to the host's memory: the descriptor itself and `view` are copied by hpsgd_init; the tensor
 * lists, transport and pool must outlive the object. Fields marked (F) are the same on all workers. */
typedef struct hpsgd_desc {
    size_t struct_size;              /* sizeof(hpsgd_desc) */
    weft_tensors params;             /* (F: shapes, types) parameters, in place: the replica */
    const weft_transport *transport; /* the host's network */
    const weft_pool *pool;           /* the host's threads; NULL: serial, driven by polling */
    /* where params are 16-bit: their f32 weights, tensor for tensor (of others data may be NULL); no tensors: none */
    weft_tensors master;
    const weft_view *view; /* first members; NULL: all ranks, epoch 0 */
    uint32_t channel;      /* the same on all workers: 0 .. WEFT_CHANNELS-1; objects sharing a transport differ */
    weft_isa isa;          /* force an instruction set; hpsgd_effective tells which one is in use */
    hpsgd_mode mode;       /* (F) */
    uint32_t min_steps;    /* h_min, local steps a round at least; default 1; FIXED: max_steps */
    uint32_t max_steps;    /* h_max, local steps without a result at most; default 16; BLOCKING: min_steps */
    double carry;          /* (F) beta in [0, 1] */
    hpsgd_payload payload; /* (F) */
    int keep_delta;        /* (F) default on; WEFT_ZERO: off (with carry or HPSGD_CONTINUE it is always on) */
    hpsgd_void on_void;
    hpsgd_guard guard;
    hpsgd_initial initial;    /* (F) */
    uint32_t initial_rank;    /* (F) for HPSGD_INITIAL_COPY */
    hpsgd_startup startup;    /* (F) */
    weft_algorithm algorithm; /* (F) of the all-reduce; default by size, with equal bits */
    /* (F) 1: use the transport's own all_reduce while all its ranks take part: the bits are those that it promises */
    int host_collectives;
    int check_replicas;  /* (F) 1: compare a hash of W every round: WEFT_ERR_MISMATCH names both */
    int polling;         /* 1: never use the pool's submit */
    uint64_t timeout_ns; /* no progress for so long while this worker has to wait: WEFT_ERR_TIMEOUT; 0: never */
    weft_trace_fn trace; /* may be NULL */
    void *trace_ctx;
#ifdef WEFT_CUDA
    /* NULL: params are host memory; else they, and their masters, are device memory; rounds go on whenever a verb is
     * called, never on the pool */
    const weft_cuda *cuda;
#endif
} hpsgd_desc;

/* Counters since hpsgd_init (or as loaded). Of this worker's steps, `steps` = steps_merged + steps_lost + those in the
 * replica and under way (steps_pending). */
typedef struct hpsgd_stats_t {
    uint64_t steps;         /* local steps */
    uint64_t steps_merged;  /* whose change is in W */
    uint64_t steps_lost;    /* dropped: void rounds, changes that are not finite, parameters taken over */
    uint64_t steps_pending; /* in the replica or under way */
    uint64_t rounds;        /* merged here */
    uint64_t rounds_void;   /* come to nothing, W untouched */
    uint64_t nonfinite;     /* changes of this worker that were not finite */
    uint64_t launches;
    uint64_t stalls;       /* times that hpsgd_step had to say WEFT_STALL (asking again is the same one) */
    uint64_t drains;       /* completed */
    uint64_t members;      /* workers in the view now */
    uint64_t participants; /* workers in the last round merged: the divisor */
    uint64_t round_steps;  /* local steps of all of them in it */
    weft_traffic traffic;  /* of this worker; as of the launch while a round runs beside training */
} hpsgd_stats_t;

/* Bits of hpsgd_state: which verbs are legal now. close, stats, detail and the like always are. */
enum {
    HPSGD_MAY_STEP = 1,     /* hpsgd_step, hpsgd_start, hpsgd_drain, hpsgd_leave, setters */
    HPSGD_MAY_POLL = 2,     /* something is in progress (hpsgd_poll and hpsgd_wait are legal at any time) */
    HPSGD_MAY_SAVE = 4,     /* hpsgd_save */
    HPSGD_MAY_LOAD = 8,     /* hpsgd_load: after init, before anything else */
    HPSGD_MAY_REGROUP = 16, /* hpsgd_regroup */
    HPSGD_IN_FLIGHT = 32    /* a round is under way, or done and not merged yet */
};

/* Bits of hpsgd_events: what the last of start, step, poll, wait, drain, leave and regroup has done. */
enum {
    HPSGD_LAUNCHED = 1,
    HPSGD_MERGED = 2, /* the parameters are on a new W */
    HPSGD_VOIDED = 4,
    HPSGD_STALLED = 8,
    HPSGD_DRAINED = 16
};

/* Bytes that hpsgd_init needs for this descriptor; 0 if the descriptor is refused (report->detail says why).
 * `report`, if not NULL, is overwritten with every buffer by name. */
#define hpsgd_memory(desc, report) hpsgd_memory_abi((desc), (report), sizeof(hpsgd_desc), WEFT_ABI)
HPSGD_API size_t hpsgd_memory_abi(const hpsgd_desc *desc, weft_memory_report *report, size_t desc_size, uint32_t abi);

/* Makes *out inside `memory` (the caller's, any alignment, at least hpsgd_memory bytes; it must stay until
 * hpsgd_close). Sends nothing. Errors: ARGUMENT, ABI, MEMORY, OVERFLOW, UNSUPPORTED, FLOAT_ENV; *out is then NULL and
 * *detail, if not NULL, says why. */
#define hpsgd_init(out, desc, memory, bytes)                                                                           \
    hpsgd_init_abi((out), (desc), (memory), (bytes), NULL, sizeof(hpsgd_desc), WEFT_ABI)
#define hpsgd_init_detail(out, desc, memory, bytes, detail)                                                            \
    hpsgd_init_abi((out), (desc), (memory), (bytes), (detail), sizeof(hpsgd_desc), WEFT_ABI)
HPSGD_API weft_status hpsgd_init_abi(hpsgd **out, const hpsgd_desc *desc, void *memory, size_t bytes,
                                     weft_detail *detail, size_t desc_size, uint32_t abi);

/* First contact: compares fingerprints and settles the initial parameters. Optional: without it the first hpsgd_step
 * begins it, and training goes on meanwhile. The initial parameters are those at the time of hpsgd_start; without it
 * those at the time of hpsgd_init. */
HPSGD_API weft_status hpsgd_start(hpsgd *h);

/* One local step is done. WEFT_OK: take the next one. WEFT_STALL: do not; call again, or wait. (Other verbs may come
 * between the optimiser and this one: the step is then in the replica, though not counted yet.) */
HPSGD_API weft_status hpsgd_step(hpsgd *h);

/* Goes on with whatever is in progress, at a step boundary. Never blocks. WEFT_OK: nothing keeps the host from its next
 * step; WEFT_STALL: it must not take one; WEFT_AGAIN: start, regroup, drain or leave is in progress. */
HPSGD_API weft_status hpsgd_poll(hpsgd *h);

/* Moves messages only, in the middle of a step: neither parameters nor W are touched. */
HPSGD_API weft_status hpsgd_progress(hpsgd *h);

/* Polls until something other than WEFT_AGAIN and WEFT_STALL comes, sleeping in the transport's `wait` where there is
 * one. Bounded by timeout_ns. */
HPSGD_API weft_status hpsgd_wait(hpsgd *h);

/* Collective: everything under way and in the replicas goes into W; WEFT_OK when the parameters are W, the same on all
 * workers, and nothing is under way. All workers of the view must call it, with any step counts; no steps meanwhile.
 * Calling it again while it is in progress is a poll. */
HPSGD_API weft_status hpsgd_drain(hpsgd *h);

/* Sends off what is left and says good-bye: the others go on without this worker. Poll until WEFT_OK, then close. Views
 * given from then on leave out whoever has left; one that was on its way to it (regroup is then ORDER) wants another
 * one after it. A loss may still show here, and wants a regroup first; not that of a worker that has been told
 * good-bye. After a drain nothing is lost by that: close. */
HPSGD_API weft_status hpsgd_leave(hpsgd *h);

/* W, into tensors of params' shapes and types (where there is a master: of the master's). Legal between init and close,
 * in the middle of a step, too. */
HPSGD_API weft_status hpsgd_model(hpsgd *h, const weft_tensors *into);

/* The host has learnt that `rank` is gone, or that its link is usable again (after its loss has shown or has been
 * reported). Communicates nothing. After the loss of a member verbs that communicate return WEFT_ERR_PEER_LOST until
 * hpsgd_regroup. These three, hpsgd_wait, hpsgd_save and close wait, if a round runs beside training, for the pool's
 * thread to let go of it: as long as it takes to look at the network, or a fifth of a millisecond. */
HPSGD_API weft_status hpsgd_peer_lost(hpsgd *h, uint32_t rank);
HPSGD_API weft_status hpsgd_peer_up(hpsgd *h, uint32_t rank);

/* The new view, the same on all its members, with a higher epoch than any before; at a step boundary. Settles what
 * becomes of the round under way; poll until WEFT_OK. A drain or good-bye in progress goes on. A worker that comes
 * (back) is given the view by regroup right after init, and takes over W. */
HPSGD_API weft_status hpsgd_regroup(hpsgd *h, const weft_view *view);

/* Everything of this object that shapes the trajectory, W among it, as one blob (versioned, checksummed,
 * endian-neutral). *bytes is set to the length; with buf NULL only that. Parameters and optimiser are the host's to
 * save, at the same moment. With a round under way (needs keep_delta, else WEFT_AGAIN: drain, or try later) the payload
 * is in it, too, and is sent again after loading: in HPSGD_FIXED resuming equals never having stopped, at every step;
 * in the other modes save after a drain. Not in a stall: wait for its end. Load: into a fresh object of the same
 * descriptor (but for `channel` and timing), rank and number of workers, all of the same moment, with the parameters of
 * that moment in place: they are not looked at here, and what they differ by would count as a change of this worker's.
 * Hostile blobs give an error, the object is then as hpsgd_init would make it. */
HPSGD_API weft_status hpsgd_save(hpsgd *h, void *buf, size_t capacity, size_t *bytes);
HPSGD_API weft_status hpsgd_load(hpsgd *h, const void *buf, size_t bytes);
/* The same through callbacks (state.h), for blobs that no memory has room for. `write` NULL: only the length. */
HPSGD_API weft_status hpsgd_save_to(hpsgd *h, weft_write_fn write, void *ctx, size_t *bytes);
HPSGD_API weft_status hpsgd_load_from(hpsgd *h, weft_read_fn read, void *ctx, size_t bytes);

/* Schedules, from now on; 0 leaves as it is. In FIXED both are max_steps, in BLOCKING both are min_steps. */
HPSGD_API weft_status hpsgd_set_steps(hpsgd *h, uint32_t min_steps, uint32_t max_steps);
HPSGD_API weft_status hpsgd_set_void(hpsgd *h, hpsgd_void on_void);

/* Reading. The descriptor comes back with defaults filled in and the setters' values. */
HPSGD_API void hpsgd_stats(const hpsgd *h, hpsgd_stats_t *out);
HPSGD_API void hpsgd_effective(const hpsgd *h, hpsgd_desc *out);
HPSGD_API const weft_detail *hpsgd_detail(const hpsgd *h); /* never NULL, but for h == NULL */
/* How many workers are in the view now (whoever has left is not); their ranks, ascending, as far as `capacity` goes. */
HPSGD_API uint32_t hpsgd_members(const hpsgd *h, uint32_t *ranks, uint32_t capacity);
HPSGD_API uint32_t hpsgd_state(const hpsgd *h);
HPSGD_API uint32_t hpsgd_events(const hpsgd *h);

/* Cancels every message under way. Afterwards the memory is the host's again and no verb is legal. Needs nobody's
 * cooperation (but the pool's thread). What is still in the network must not meet a later object: use the channel again
 * only after a barrier of your own behind every worker's close, and with a first view of a higher epoch; or take
 * another channel. */
HPSGD_API void hpsgd_close(hpsgd *h);
/*==== IMPLEMENTATION ====*/

/* States. A round is under way from HPSGD_RECORD to HPSGD_HAVE; the network alone moves it to HPSGD_DONE or
 * HPSGD_SPOILT. What touches parameters or W happens on the training thread, from the states after those. */
enum {
    HPSGD_IDLE = 0, /* nothing under way */
    HPSGD_SYNC,     /* agreeing on a view */
    HPSGD_AGREED,   /* agreed: to be settled */
    HPSGD_COPYING,  /* W goes to whoever is new */
    HPSGD_COPIED,
    HPSGD_RECORD, /* gathering the records of a round: who takes part, who drains */
    HPSGD_REDUCE, /* summing the changes */
    HPSGD_HAVE,   /* everyone tells that it holds the sum */
    HPSGD_DONE,   /* it counts: to be merged */
    HPSGD_SPOILT, /* the sum is not finite: void */
    HPSGD_LEAVING,
    HPSGD_LEFT,
    HPSGD_CLOSED
};

enum { HPSGD_STEP_COPY = WEFT_STEP_HAVE + 1 };                           /* the exchange behind a round's own */
enum { HPSGD_SYNC_FRESH = 1, HPSGD_SYNC_CUT = 2, HPSGD_SYNC_EPOCH = 8 }; /* from this bit on: of the round cut */
enum { HPSGD_SLABS = 32 };                                               /* of a payload that is summed in place */
enum { HPSGD_RECORD_BYTES = 24 };                                        /* flags, steps, hash of W */
#define HPSGD_FLAG_DRAINING 1u
#define HPSGD_FLAG_UNSOUND 2u
enum { HPSGD_FLUSHES = 16 }; /* rounds that a drain may take for what rounding has left over */
enum { HPSGD_MINE = 0, HPSGD_BESIDE = 1, HPSGD_BACK = 2 };
enum { HPSGD_NAP_NS = 200000 }; /* after which the pool's thread looks whether it is to let go */
#define HPSGD_MAGIC 0x68707367u /* "hpsg" */

/* The one hand-over between threads: 32 bits, release and acquire. */
#if defined __GNUC__ || defined __clang__
#define HPSGD_ATOMICS 1
#define HPSGD_ACQUIRE(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define HPSGD_RELEASE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#elif defined _MSC_VER
#include <intrin.h>
#define HPSGD_ATOMICS 1
#define HPSGD_ACQUIRE(p) ((uint32_t)_InterlockedOr((volatile long *)(p), 0))
#define HPSGD_RELEASE(p, v) (void)_InterlockedExchange((volatile long *)(p), (long)(v))
#else
#define HPSGD_ATOMICS 0
#define HPSGD_ACQUIRE(p) (*(p))
#define HPSGD_RELEASE(p, v) (void)(*(p) = (v))
#endif

struct hpsgd {
    uint32_t magic;
    hpsgd_desc desc; /* effective */
    weft_group group;
    weft_sync sync;
    weft_reduce reduce; /* of one slab of the payload */
    const weft_replica_kernels *kernels;
#ifdef WEFT_CUDA
    weft_gpu gpu;
    weft_replica_kernels on_gpu;
#endif
    weft_detail detail;
    int busy;
    int beside; /* rounds are handed to the pool */
    /* whose the network is: see HPSGD_MINE; and a wish to have it back */
    uint32_t hand, stop;
    int joined, contacted; /* has been in an agreed view; has had its W compared */
    int state, cut;        /* cut: a new view has cut a round short */
    uint32_t begun_in;     /* epoch of the last round begun */
    int started, starting, draining, leaving, stalled;
    int resend; /* loaded in flight: the payload is to be sent again */
    int torn;   /* W was being overwritten by a copy */
    uint32_t events;
    uint64_t round;      /* the last one that is over for this worker */
    uint64_t settled;    /* id of the last one that was done or void by decision here */
    uint64_t have;       /* id of the one whose sum is here, not yet done, or 0 */
    uint64_t n;          /* local steps in the replica since it began at its anchor */
    uint64_t flying;     /* local steps in the payload */
    double carried;      /* the carry with which the phase began, while a round is under way */
    uint64_t unsound;    /* elements of the own payload that are not finite */
    int left_over;       /* rounding may have left something of it in the replica */
    uint32_t flushes;    /* rounds of this drain or good-bye */
    int all_drain;       /* everybody in the round drains, with nothing left over */
    uint64_t told_steps; /* local steps of all workers in the round */
    int told_unsound;    /* somebody's payload is not finite */
    hpsgd_stats_t stats;
    /* memory */
    weft_tensor *work;         /* the tensors trained: params, or their masters */
    weft_map map, payload_map; /* positions in W; in the payload */
    weft_tensor *payload;      /* over the payload's memory */
    weft_tensor *slab;         /* its pieces in the slab under way */
    unsigned char *w, *sent;   /* W; the payload */
    size_t slab_bytes, at;     /* of a slab; where the one under way begins */
    uint32_t slab_index;
    size_t *slab_position;
    unsigned char *records;
    uint32_t *who, count; /* participants of the round, ascending ranks */
    uint32_t *seen;       /* members, as of the hand-over */
    int waiting;          /* in hpsgd_wait */
};

/* ---- Descriptor ---- */

WEFT_FN weft_status hpsgd_enum(uint64_t v, uint64_t most, const char *field, weft_detail *d) {
    return v <= most ? WEFT_OK : weft_refuse(d, WEFT_ERR_ARGUMENT, field, most, v);
}

/* The tensor that is trained: the parameter, or its master. */
WEFT_FN weft_tensor hpsgd_trained(const hpsgd_desc *d, size_t i) {
    return d->master.count && d->master.tensor[i].data ? d->master.tensor[i] : d->params.tensor[i];
}

WEFT_FN weft_status hpsgd_check_master(const hpsgd_desc *in, weft_detail *d) {
    weft_status s;
    weft_tensor two[2];
    weft_tensors pair;
    size_t i, j;
    pair.tensor = two;
    pair.count = 2;
    if (in->master.count && ((s = weft_tensors_check(&in->master, 1, d)) != WEFT_OK ||
                             (s = weft_tensors_match(&in->params, &in->master, d)) != WEFT_OK))
        return s;
    for (i = 0; i < in->params.count; i++) {
        const weft_tensor t = hpsgd_trained(in, i);
        int narrow = weft_dtype_bytes(in->params.tensor[i].dtype) == 2;
        if (t.count && weft_dtype_bytes(t.dtype) == 2)
            return weft_refuse(d, WEFT_ERR_UNSUPPORTED,
                               WEFT_TEXT("params.dtype (16-bit: name the f32 weights in master)"), WEFT_F32,
                               (uint64_t)t.dtype);
        if (narrow ? t.count && t.dtype != WEFT_F32
                   : t.data != in->params.tensor[i].data || t.dtype != in->params.tensor[i].dtype)
            return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("master.dtype (f32, of 16-bit parameters)"), WEFT_F32,
                               (uint64_t)t.dtype);
        if (in->payload == HPSGD_PAYLOAD_BF16 && t.count && t.dtype == WEFT_F64)
            return weft_refuse(d, WEFT_ERR_UNSUPPORTED, WEFT_TEXT("params.dtype (payload bf16: f32 only)"), WEFT_F32,
                               (uint64_t)t.dtype);
        two[1] = t;
        for (j = 0; j < i && in->master.count; j++) { /* tied weights */
            two[0] = hpsgd_trained(in, j);
            if ((s = weft_tensors_check(&pair, 0, d)) != WEFT_OK) return weft_refuse(d, s, d->field, j, i);
        }
    }
    return WEFT_OK;
}

/* Checks everything, and fills in the defaults. */
WEFT_FN weft_status hpsgd_check(const hpsgd_desc *in, size_t desc_size, uint32_t abi, hpsgd_desc *out, weft_detail *d) {
    weft_status s;
    if (!in) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc"), 1, 0);
    if (abi != WEFT_ABI) return weft_refuse(d, WEFT_ERR_ABI, WEFT_TEXT("header version"), WEFT_ABI, abi);
    if (desc_size != sizeof *in)
        return weft_refuse(d, WEFT_ERR_ABI, WEFT_TEXT("sizeof(hpsgd_desc)"), sizeof *in, desc_size);
    if (in->struct_size != sizeof *in)
        return weft_refuse(d, WEFT_ERR_ABI, WEFT_TEXT("desc.struct_size"), sizeof *in, in->struct_size);
    *out = *in;
    if ((s = weft_transport_check(in->transport, d)) != WEFT_OK ||
        (s = weft_tensors_check(&in->params, 0, d)) != WEFT_OK)
        return s;
    if ((s = WEFT_GPU_CHECK(in, d)) != WEFT_OK) return s;
    if (in->view && (s = weft_view_check(in->view, in->transport, d)) != WEFT_OK) return s;
    if (in->channel >= WEFT_CHANNELS)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.channel"), WEFT_CHANNELS - 1, in->channel);
    if (!weft_kernels_select(in->isa, 0))
        return weft_refuse(d, WEFT_ERR_UNSUPPORTED, WEFT_TEXT("desc.isa"), 0, (uint64_t)in->isa);
    if ((s = hpsgd_enum((uint64_t)in->mode, HPSGD_BLOCKING, WEFT_TEXT("desc.mode"), d)) != WEFT_OK ||
        (s = hpsgd_enum((uint64_t)in->payload, HPSGD_PAYLOAD_BF16, WEFT_TEXT("desc.payload"), d)) != WEFT_OK ||
        (s = hpsgd_enum((uint64_t)in->on_void, HPSGD_DROP, WEFT_TEXT("desc.on_void"), d)) != WEFT_OK ||
        (s = hpsgd_enum((uint64_t)in->guard, HPSGD_GUARD_SKIP, WEFT_TEXT("desc.guard"), d)) != WEFT_OK ||
        (s = hpsgd_enum((uint64_t)in->initial, HPSGD_INITIAL_COPY, WEFT_TEXT("desc.initial"), d)) != WEFT_OK ||
        (s = hpsgd_enum((uint64_t)in->startup, HPSGD_CONTINUE, WEFT_TEXT("desc.startup"), d)) != WEFT_OK ||
        (s = hpsgd_enum((uint64_t)in->algorithm, WEFT_ALGORITHM_DOUBLING, WEFT_TEXT("desc.algorithm"), d)) != WEFT_OK ||
        (s = hpsgd_enum(in->initial_rank, in->transport->size - 1, WEFT_TEXT("desc.initial_rank"), d)) != WEFT_OK)
        return s;
    if (in->keep_delta < WEFT_ZERO || in->keep_delta > 1)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.keep_delta"), 1, (uint64_t)(int64_t)in->keep_delta);
    if (!(in->carry >= 0 && in->carry <= 1)) /* false for NaN */
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.carry"), weft_double_bits(1.0),
                           weft_double_bits(in->carry));
    out->isa = weft_isa_resolve(in->isa);
    out->keep_delta = in->keep_delta != WEFT_ZERO || in->carry != 0.0 || in->startup == HPSGD_CONTINUE;
    if (!out->keep_delta) out->on_void = HPSGD_DROP;
    out->min_steps = in->min_steps ? in->min_steps : 1;
    out->max_steps = in->max_steps ? in->max_steps : out->min_steps > 16 ? out->min_steps : 16;
    if (in->mode == HPSGD_FIXED) {
        if (in->min_steps && !in->max_steps) out->max_steps = in->min_steps;
        if (!in->min_steps) out->min_steps = out->max_steps;
    }
    if (in->mode == HPSGD_BLOCKING && !in->max_steps) out->max_steps = out->min_steps;
    if (out->min_steps > out->max_steps || (in->mode != HPSGD_FREE && out->min_steps != out->max_steps))
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.min_steps"), out->max_steps, out->min_steps);
    if (in->timeout_ns && !in->transport->now)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("transport.now (for timeout_ns)"), 1, 0);
    if (in->host_collectives && !in->transport->all_reduce)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("transport.all_reduce (for host_collectives)"), 1, 0);
    return hpsgd_check_master(in, d);
}

/* ---- Memory ---- */

/* Bytes of a mirror of the trained tensors; as they travel, or as they are. */
WEFT_FN size_t hpsgd_mirror(const hpsgd_desc *d, int payload, int *ok) {
    weft_tensors one;
    weft_tensor t;
    size_t i, total = 0;
    one.tensor = &t;
    one.count = 1;
    for (i = 0; i < d->params.count; i++) {
        t = hpsgd_trained(d, i);
        if (payload && d->payload == HPSGD_PAYLOAD_BF16) t.dtype = WEFT_BF16;
        if (!weft_add_size(total, weft_map_measure(&one, ok), &total)) *ok = 0;
    }
    return total;
}

WEFT_FN hpsgd *hpsgd_lay_out(weft_layout *l, const hpsgd_desc *d, hpsgd *tmp) {
    uint32_t size = d->transport->size;
    hpsgd *made = (hpsgd *)weft_layout_take(l, WEFT_TEXT("hpsgd"), 1, sizeof(hpsgd));
    hpsgd *h = made ? made : tmp;
    weft_tensors slab;
    weft_tensor bytes;
    int ok = 1;
    size_t model = hpsgd_mirror(d, 0, &ok), payload = hpsgd_mirror(d, 1, &ok);
    memset(h, 0, sizeof *h);
    weft_group_layout(l, size, &h->group.peer, &h->group.member);
    weft_sync_layout(l, size, &h->sync.all);
    /* a small payload goes in one slab, as one that is kept */
    h->slab_bytes = payload;
    if (!d->keep_delta && payload > WEFT_GATHER_BYTES * HPSGD_SLABS)
        h->slab_bytes = (payload / HPSGD_SLABS + WEFT_ALIGNMENT) / WEFT_ALIGNMENT * WEFT_ALIGNMENT;
    bytes.data = NULL;
    bytes.count = h->slab_bytes / sizeof(float);
    bytes.dtype = WEFT_F32;
    slab.tensor = &bytes;
    slab.count = 1;
    weft_reduce_layout(l, &h->reduce, &slab, size, d->algorithm);
    h->work = (weft_tensor *)weft_layout_take(l, WEFT_TEXT("lists of tensors"), d->params.count, 3 * sizeof *h->work);
    h->map.position = (size_t *)weft_layout_take(l, WEFT_TEXT("positions of the tensors, in three mirrors"),
                                                 d->params.count + 1, 3 * sizeof(size_t));
    h->w = (unsigned char *)weft_layout_data(l, WEFT_TEXT("global model"), model, 1);
    h->sent = (unsigned char *)weft_layout_data(l, WEFT_TEXT("payload"), payload, 1);
    WEFT_GPU_LAYOUT(l, &h->gpu, &d->params, &slab, size);
    h->records = (unsigned char *)weft_layout_take(l, WEFT_TEXT("records of all workers"), size, HPSGD_RECORD_BYTES);
    h->who = (uint32_t *)weft_layout_take(l, WEFT_TEXT("participants of the round, and members"), size,
                                          2 * sizeof(uint32_t));
    if (!ok) l->overflow = 1;
    return made;
}

HPSGD_API size_t hpsgd_memory_abi(const hpsgd_desc *desc, weft_memory_report *report, size_t desc_size, uint32_t abi) {
    weft_layout l;
    weft_detail detail = weft_detail_none();
    hpsgd_desc d;
    hpsgd tmp;
    size_t total = 0;
    memset(&l, 0, sizeof l);
    if (report) memset(report, 0, sizeof *report);
    l.report = report;
    if (hpsgd_check(desc, desc_size, abi, &d, &detail) == WEFT_OK) {
        WEFT_GPU_LEND(&l, &d);
        hpsgd_lay_out(&l, &d, &tmp);
        total = weft_layout_total(&l);
        if (!total) weft_refuse(&detail, WEFT_ERR_OVERFLOW, WEFT_TEXT("memory"), SIZE_MAX, 0);
    }
    if (report) {
        report->detail = detail;
        report->total_bytes = total;
        report->requests_per_peer = WEFT_REQUESTS_PER_PEER;
        WEFT_GPU_REPORT(report, &l);
    }
    return total;
}

WEFT_FN const char *const *hpsgd_field_names(void) {
    static const char *const names[] = {"algorithm",
                                        "version",
                                        "params.count",
                                        "params (elements)",
                                        "params (shapes and types)",
                                        "mode",
                                        "carry",
                                        "payload",
                                        "initial",
                                        "startup",
                                        "algorithm of the sum",
                                        "host_collectives",
                                        "check_replicas",
                                        "slabs",
                                        NULL};
    return names;
}

WEFT_FN void hpsgd_fingerprint(hpsgd *h) {
    const hpsgd_desc *d = &h->desc;
    weft_tensors work;
    uint64_t *f = h->sync.mine;
    work.tensor = h->work;
    work.count = d->params.count;
    h->sync.name = hpsgd_field_names();
    f[0] = HPSGD_MAGIC;
    f[1] = WEFT_VERSION;
    f[2] = d->params.count;
    f[3] = weft_tensors_elements(&d->params);
    f[4] = weft_shape_hash(&work);
    f[5] = (uint64_t)d->mode;
    f[6] = weft_double_bits(d->carry + 0.0);
    f[7] = (uint64_t)d->payload;
    f[8] = (uint64_t)d->initial | (uint64_t)d->initial_rank << 8;
    f[9] = (uint64_t)d->startup;
    f[10] = (uint64_t)h->reduce.algorithm;
    f[11] = d->host_collectives != 0;
    f[12] = d->check_replicas != 0;
    f[13] = h->slab_bytes; /* the pieces of a round are the same on all workers */
}

WEFT_FN uint64_t hpsgd_blob_fingerprint(const hpsgd *h) {
    uint64_t x = 0x9E3779B97F4A7C15u + h->group.net->rank;
    int i;
    for (i = 0; i < WEFT_SYNC_COMMITTED; i++) {
        x = (x ^ h->sync.mine[i]) * 0xBF58476D1CE4E5B9u;
        x ^= x >> 29;
    }
    return (x ^ h->group.net->size) * 0x94D049BB133111EBu;
}

/* ---- Passes over the model ---- */

WEFT_FN unsigned char *hpsgd_w(hpsgd *h, size_t i) {
    return h->w + h->map.position[i];
}

/* What one pass does, for all tensors: launch, or merge, or (without `merging`) rebase. Returns how many elements of
 * the new payload are not finite. What is in the replica is kept, also where no step is counted: rounding, or a step
 * that the host has not told of yet. */
WEFT_FN uint64_t hpsgd_pass(hpsgd *h, int launch, int merging, int again, double carry) {
    const unsigned char *sum = h->desc.keep_delta ? h->reduce.result : h->sent;
    uint64_t bad = 0;
    size_t i;
    for (i = 0; i < h->desc.params.count; i++) {
        const size_t at = h->payload_map.position[i];
        weft_replica r;
        memset(&r, 0, sizeof r);
        r.kernels = h->kernels;
        r.phase.count = (double)h->count;
        r.phase.carry = carry;
        r.phase.carried = h->carried;
        r.phase.again = again;
        r.dtype = h->work[i].dtype;
        r.payload = h->payload[i].dtype;
        r.launch = launch;
        r.sum = merging ? sum + at : NULL;
        r.own = h->carried != 0.0 || again ? h->sent + at : NULL;
        r.w = hpsgd_w(h, i);
        r.x = h->work[i].data;
        r.out = h->sent + at;
        bad += weft_run_replica(&r, h->desc.pool, h->work[i].count);
    }
    return bad;
}

/* x has moved: so do its 16-bit copies. */
WEFT_FN void hpsgd_narrow(hpsgd *h) {
    size_t i;
    for (i = 0; i < h->desc.params.count; i++) {
        const weft_tensor *t = &h->desc.params.tensor[i];
        if (weft_dtype_bytes(t->dtype) != 2 || !t->count) continue;
#ifdef WEFT_CUDA
        if (h->map.gpu) {
            weft_gpu_between(h->map.gpu, WEFT_SIXTEEN_CONVERT, t->count, WEFT_F32, h->work[i].data, t->dtype, t->data);
            continue;
        }
#endif
        (t->dtype == WEFT_BF16 ? h->kernels->core->f32_to_bf16 : h->kernels->core->f32_to_f16)(
            t->count, (const float *)h->work[i].data, (uint16_t *)t->data);
    }
}

/* W <- x, or x <- W. */
WEFT_FN void hpsgd_copy(hpsgd *h, int to_w) {
    size_t i;
    for (i = 0; i < h->desc.params.count; i++) {
        const weft_tensor *t = &h->work[i];
        weft_run_copy(h->kernels->core, h->desc.pool, t->dtype, t->count, to_w ? t->data : (void *)hpsgd_w(h, i),
                      to_w ? (void *)hpsgd_w(h, i) : t->data);
    }
    if (!to_w) hpsgd_narrow(h);
}

enum { HPSGD_OF_X, HPSGD_OF_W, HPSGD_OF_PAYLOAD };

WEFT_FN uint64_t hpsgd_count_nonfinite(hpsgd *h, int of) {
    const weft_tensor *t = of == HPSGD_OF_PAYLOAD ? h->payload : h->work;
    uint64_t bad = 0;
    size_t i;
    for (i = 0; i < h->desc.params.count; i++)
        bad += weft_run_count_nonfinite(h->kernels->core, h->desc.pool, t[i].dtype, t[i].count,
                                        of == HPSGD_OF_W ? hpsgd_w(h, i) : t[i].data);
    return bad;
}

WEFT_FN uint64_t hpsgd_hash(hpsgd *h) {
    weft_tensors work;
    work.tensor = h->work;
    work.count = h->desc.params.count;
    return weft_tensors_hash(h->kernels->core, h->desc.pool, &work, h->w, h->map.position);
}

/* Is any element of the payload not zero? */
WEFT_FN int hpsgd_payload_moves(const hpsgd *h) {
    size_t i;
    uint32_t k;
#ifdef WEFT_CUDA
    if (h->map.gpu) { /* the square of any bf16 that is not zero is not zero in f64 */
        for (i = 0; i < h->desc.params.count; i++)
            if (weft_run_sqnorm(h->kernels->core, NULL, WEFT_BF16, h->payload[i].count, h->payload[i].data) != 0)
                return 1;
        return 0;
    }
#endif
    for (i = 0; i + sizeof k <= weft_map_bytes(&h->payload_map); i += sizeof k) {
        memcpy(&k, h->sent + i, sizeof k);
        if (k & 0x7FFF7FFFu) return 1; /* pairs of bf16, without their signs */
    }
    return 0;
}

/* Everything that training changes, as at the beginning: W is x. */
WEFT_FN void hpsgd_begin_afresh(hpsgd *h) {
    h->joined = h->contacted = h->resend = h->torn = 0;
    h->state = HPSGD_IDLE;
    h->round = h->settled = h->have = h->n = h->flying = h->unsound = 0;
    h->carried = 0.0;
    memset(&h->stats, 0, sizeof h->stats);
    hpsgd_copy(h, 1);
}

HPSGD_API weft_status hpsgd_init_abi(hpsgd **out, const hpsgd_desc *desc, void *memory, size_t bytes,
                                     weft_detail *detail, size_t desc_size, uint32_t abi) {
    weft_detail why = weft_detail_none();
    weft_detail *say = detail ? detail : &why;
    weft_layout l;
    weft_tensors list;
    hpsgd_desc d;
    hpsgd *h;
    size_t need, i;
    weft_status s;
    *say = why;
    if (!out) return weft_refuse(say, WEFT_ERR_ARGUMENT, WEFT_TEXT("out"), 1, 0);
    *out = NULL;
    if ((s = hpsgd_check(desc, desc_size, abi, &d, say)) != WEFT_OK) return s;
    need = hpsgd_memory_abi(desc, NULL, desc_size, abi);
    if (!need) return weft_refuse(say, WEFT_ERR_OVERFLOW, WEFT_TEXT("memory"), SIZE_MAX, 0);
    if (!memory || bytes < need) return weft_refuse(say, WEFT_ERR_MEMORY, WEFT_TEXT("bytes"), need, memory ? bytes : 0);
    if ((s = weft_float_probe(say)) != WEFT_OK) return s;
    memset(&l, 0, sizeof l);
    l.base = weft_align_memory(memory);
    WEFT_GPU_LEND(&l, &d);
    h = hpsgd_lay_out(&l, &d, NULL);
    h->magic = HPSGD_MAGIC;
    h->desc = d;
    h->desc.view = NULL;
    h->payload = h->work + d.params.count;
    h->slab = h->payload + d.params.count;
    h->payload_map.position = h->map.position + d.params.count + 1;
    h->slab_position = h->payload_map.position + d.params.count + 1;
    h->seen = h->who + d.transport->size;
    list.count = d.params.count;
    for (i = 0; i < d.params.count; i++) h->work[i] = hpsgd_trained(&d, i);
    list.tensor = h->work;
    weft_map_init(&h->map, &list, h->map.position);
    for (i = 0; i < d.params.count; i++) {
        h->payload[i] = h->work[i];
        if (d.payload == HPSGD_PAYLOAD_BF16) h->payload[i].dtype = WEFT_BF16;
    }
    list.tensor = h->payload;
    weft_map_init(&h->payload_map, &list, h->payload_map.position);
    for (i = 0; i < d.params.count; i++) h->payload[i].data = h->sent + h->payload_map.position[i];
    weft_group_start(&h->group, d.transport, d.channel, desc->view, d.timeout_ns, d.trace, d.trace_ctx);
    h->reduce.g = &h->group;
    h->reduce.pool = d.pool;
    h->reduce.host = d.host_collectives;
    h->reduce.groups = 1;
    h->kernels = weft_replica_kernels_select(d.isa, weft_map_bytes(&h->map));
    h->reduce.kernels = h->kernels->core;
    h->beside = HPSGD_ATOMICS && d.pool && d.pool->submit && !d.polling;
#ifdef WEFT_CUDA
    if ((s = weft_gpu_init(&h->gpu, d.cuda, &l, &h->reduce.kernels, say)) != WEFT_OK) return s;
    if (d.cuda) { /* on another thread another GPU may be current */
        h->on_gpu = *h->kernels;
        h->on_gpu.core = h->reduce.kernels;
        h->kernels = &h->on_gpu;
        h->beside = 0;
        h->group.gpu = h->map.gpu = h->reduce.map.gpu = &h->gpu;
    }
#endif
    weft_data_zero(WEFT_GPU_IN(h->map), h->sent, weft_map_bytes(&h->payload_map));
    weft_data_zero(WEFT_GPU_IN(h->map), h->w, weft_map_bytes(&h->map));
    h->detail = weft_detail_none();
    hpsgd_fingerprint(h);
    hpsgd_begin_afresh(h);
    if ((s = WEFT_GPU_BREAKS_GROUP(&h->group)) < 0)
        return weft_refuse(say, s, WEFT_TEXT("cuda"), 0, h->group.detail.got);
    *out = h;
    return WEFT_OK;
}

/* ---- The network's part: never touches parameters or W ---- */

WEFT_FN WEFT_NOINLINE void hpsgd_phase(hpsgd *h, int state, const char *phase) {
    h->state = state;
    h->group.phase = phase;
    h->group.phase_round = h->round + 1;
    h->group.may_leave = state == HPSGD_IDLE || state == HPSGD_RECORD || state == HPSGD_DONE || state == HPSGD_SPOILT ||
                         state == HPSGD_LEAVING;
}

WEFT_FN void hpsgd_idle(hpsgd *h) {
    if (!h->resend) {
        h->carried = 0.0;
        h->flying = 0;
    }
    h->unsound = 0;
    hpsgd_phase(h, HPSGD_IDLE, WEFT_TEXT("between rounds"));
}

WEFT_FN int hpsgd_undecided(const hpsgd *h) {
    return h->state >= HPSGD_RECORD && h->state <= HPSGD_HAVE;
}

/* The payload goes on its way. */
WEFT_FN void hpsgd_begin_round(hpsgd *h) {
    unsigned char *mine = h->records + (size_t)h->group.net->rank * HPSGD_RECORD_BYTES;
    int done = h->draining && h->n == 0 && (!h->left_over || h->flushes >= HPSGD_FLUSHES); /* n: of a resent one */
    if (h->resend) h->unsound = hpsgd_count_nonfinite(h, HPSGD_OF_PAYLOAD);
    h->resend = 0;
    weft_put64(mine, (done ? HPSGD_FLAG_DRAINING : 0u) | (h->unsound ? HPSGD_FLAG_UNSOUND : 0u));
    weft_put64(mine + 8, h->flying);
    weft_put64(mine + 16, h->desc.check_replicas ? hpsgd_hash(h) : 0);
    h->begun_in = h->group.epoch;
    hpsgd_phase(h, HPSGD_RECORD, WEFT_TEXT("meeting for a round"));
    weft_group_trace(&h->group, WEFT_EVENT_ROUND_BEGUN, WEFT_NO_RANK, h->round + 1, h->flying);
    weft_gather_begin(&h->group, h->group.member, h->group.members, h->round + 1, 0, h->records, HPSGD_RECORD_BYTES, 1,
                      0);
}

/* The next slab of the payload. */
WEFT_FN void hpsgd_begin_slab(hpsgd *h) {
    size_t all = weft_map_bytes(&h->payload_map), end = all - h->at > h->slab_bytes ? h->at + h->slab_bytes : all;
    weft_range r = weft_range_map(&h->payload_map, h->payload, h->sent, 0, h->at, end);
    weft_tensors list;
    unsigned char *p;
    size_t each, which, bytes;
    list.tensor = h->slab;
    list.count = 0;
    while ((bytes = weft_range_next(&r, SIZE_MAX, &p, &each, &which)) != 0) {
        h->slab[list.count].data = p;
        h->slab[list.count].count = bytes / each;
        h->slab[list.count++].dtype = h->payload[which].dtype;
    }
    weft_map_init(&h->reduce.map, &list, h->slab_position);
    h->reduce.weight = NULL;
    weft_reduce_begin(&h->reduce, WEFT_OP_ALL_REDUCE, h->slab, h->who, h->count, h->round + 1,
                      1 + h->slab_index++ * weft_reduce_steps(h->group.net->size));
}

/* The records are here, of those who are still in the view: a worker may have said good-bye instead. */
WEFT_FN weft_status hpsgd_take_records(hpsgd *h) {
    weft_group *g = &h->group;
    const unsigned char *mine = h->records + (size_t)g->net->rank * HPSGD_RECORD_BYTES;
    uint32_t i;
    h->count = 0;
    h->all_drain = 1;
    h->told_unsound = 0;
    h->told_steps = 0;
    for (i = 0; i < g->members; i++) {
        uint32_t r = g->member[i];
        const unsigned char *p = h->records + (size_t)r * HPSGD_RECORD_BYTES;
        uint64_t flags = weft_get64(p), steps = weft_get64(p + 8), hash = weft_get64(p + 16);
        if (flags > (HPSGD_FLAG_DRAINING | HPSGD_FLAG_UNSOUND))
            return weft_group_break(g, WEFT_ERR_PROTOCOL, r, WEFT_TEXT("record.flags"),
                                    HPSGD_FLAG_DRAINING | HPSGD_FLAG_UNSOUND, flags);
        if (hash != weft_get64(mine + 16))
            return weft_group_break(g, WEFT_ERR_MISMATCH, r, WEFT_TEXT("hash of the global model"),
                                    weft_get64(mine + 16), hash);
        h->who[h->count++] = r;
        h->all_drain &= (flags & HPSGD_FLAG_DRAINING) != 0;
        h->told_unsound |= (flags & HPSGD_FLAG_UNSOUND) != 0;
        h->told_steps += steps > UINT64_MAX - h->told_steps ? UINT64_MAX - h->told_steps : steps;
    }
    h->at = 0;
    h->slab_index = 0;
    hpsgd_phase(h, HPSGD_REDUCE, WEFT_TEXT("summing the changes"));
    hpsgd_begin_slab(h);
    return WEFT_OK;
}

WEFT_FN weft_status hpsgd_reduce_poll(hpsgd *h) {
    weft_status s = weft_reduce_poll(&h->reduce);
    if (s == WEFT_ERR_NONFINITE) { /* all see it */
        h->round++;
        h->settled = weft_round_id(h->round, h->group.epoch);
        weft_group_trace(&h->group, WEFT_EVENT_ABANDONED, WEFT_NO_RANK, h->round, 0);
        hpsgd_phase(h, HPSGD_SPOILT, WEFT_TEXT("void: the sum is not finite"));
        return WEFT_OK;
    }
    if (s != WEFT_OK) return s;
    if (!h->desc.keep_delta) {
        weft_mirror_copy_out(&h->reduce, h->reduce.result, h->slab, 0, weft_map_bytes(&h->reduce.map));
        h->at += h->slab_bytes;
        if (h->at < weft_map_bytes(&h->payload_map)) {
            hpsgd_begin_slab(h);
            return WEFT_OK;
        }
    }
    hpsgd_phase(h, HPSGD_HAVE, WEFT_TEXT("telling that the sum is here"));
    h->have = weft_round_id(h->round + 1, h->group.epoch);
    weft_gather_begin(&h->group, h->who, h->count, h->round + 1, WEFT_STEP_HAVE, NULL, 0, 1, 0);
    return WEFT_OK;
}

WEFT_FN void hpsgd_done(hpsgd *h) {
    h->round++;
    h->settled = h->have;
    h->have = 0;
    weft_group_trace(&h->group, WEFT_EVENT_COMMITTED, WEFT_NO_RANK, h->round, h->count);
    hpsgd_phase(h, HPSGD_DONE, WEFT_TEXT("waiting for a step boundary"));
}

WEFT_FN weft_status hpsgd_leaving_poll(hpsgd *h) {
    weft_status s = weft_group_pump(&h->group);
    if (s != WEFT_OK || (s = weft_group_leave(&h->group, h->round + 1)) != WEFT_OK) return s;
    hpsgd_phase(h, HPSGD_LEFT, WEFT_TEXT("gone"));
    return WEFT_OK;
}

/* One phase after the other until one has to wait (WEFT_AGAIN) or wants the training thread (WEFT_OK). */
WEFT_FN weft_status hpsgd_drive(hpsgd *h) {
    weft_status s = WEFT_OK;
    for (;;) {
        switch (h->state) {
        case HPSGD_SYNC:
            if ((s = weft_sync_poll(&h->sync, &h->group)) == WEFT_OK) h->state = HPSGD_AGREED;
            return s;
        case HPSGD_COPYING:
            if ((s = weft_group_poll(&h->group)) == WEFT_OK) h->state = HPSGD_COPIED;
            return s;
        case HPSGD_RECORD:
            if ((s = weft_group_poll(&h->group)) == WEFT_OK) s = hpsgd_take_records(h);
            break;
        case HPSGD_REDUCE: s = hpsgd_reduce_poll(h); break;
        case HPSGD_HAVE:
            if ((s = weft_group_poll(&h->group)) == WEFT_OK) hpsgd_done(h);
            break;
        case HPSGD_LEAVING: return hpsgd_leaving_poll(h);
        case HPSGD_AGREED:
        case HPSGD_COPIED:
        case HPSGD_IDLE:
        case HPSGD_DONE:
        case HPSGD_SPOILT: return weft_group_pump(&h->group);
        default: return WEFT_OK;
        }
        if (s != WEFT_OK) return s;
    }
}

/* ---- Beside training ---- */

/* On the pool's thread: the network is its own until it hands it back. */
WEFT_FN void hpsgd_task(void *arg) {
    hpsgd *h = (hpsgd *)arg;
    const weft_transport *net = h->group.net;
    while (!HPSGD_ACQUIRE(&h->stop)) {
        weft_status s = hpsgd_drive(h);
        if (s != WEFT_AGAIN && s != WEFT_ERR_TIMEOUT) break;
        if (net->wait && net->now) net->wait(net->ctx, net->now(net->ctx) + HPSGD_NAP_NS);
    }
    HPSGD_RELEASE(&h->hand, (uint32_t)HPSGD_BACK);
}

/* Is the network this thread's? */
WEFT_FN int hpsgd_mine(hpsgd *h) {
    if (h->beside && HPSGD_ACQUIRE(&h->hand) == HPSGD_BESIDE) return 0;
    h->hand = HPSGD_MINE;
    return 1;
}

WEFT_FN void hpsgd_recall(hpsgd *h) {
    if (!h->beside) return;
    HPSGD_RELEASE(&h->stop, 1u);
    while (!hpsgd_mine(h)) continue;
}

WEFT_FN void hpsgd_hand_over(hpsgd *h) {
    if (!h->beside || !hpsgd_mine(h) || !hpsgd_undecided(h) || h->group.failed) return;
    h->stats.traffic = h->group.traffic;
    h->stats.members = h->group.members;
    memcpy(h->seen, h->group.member, h->group.members * sizeof *h->seen);
    h->stop = 0;
    h->hand = HPSGD_BESIDE;
    if (h->desc.pool->submit(h->desc.pool->ctx, hpsgd_task, h) != WEFT_OK) h->hand = HPSGD_MINE;
}

/* ---- The training thread's part ---- */

/* A round is in W: so many local steps of this worker's, and of all that were in it. */
WEFT_FN WEFT_NOINLINE void hpsgd_merged(hpsgd *h, uint64_t steps, uint64_t of_all, uint32_t workers) {
    h->stats.rounds++;
    h->stats.steps_merged += steps;
    h->stats.participants = workers;
    h->stats.round_steps = of_all;
    h->events |= HPSGD_MERGED;
}

/* What is in the replica is lost: the caller has put it back. */
WEFT_FN void hpsgd_lose_steps(hpsgd *h) {
    h->stats.steps_lost += h->n;
    h->n = 0;
}

/* The replica's change becomes the payload, and is sent; with a round that is done, after taking that in. */
WEFT_FN void hpsgd_launch(hpsgd *h, int merging) {
    double carry = h->desc.startup == HPSGD_CONTINUE && h->stats.launches == 0 ? 1.0 : h->desc.carry;
    size_t i;
    uint64_t bad = hpsgd_pass(h, 1, merging, 0, carry);
    if (merging) hpsgd_merged(h, h->flying, h->told_steps, h->count);
    h->carried = carry;
    h->flying = h->n;
    h->n = 0;
    h->unsound = bad;
    if (bad) {
        h->stats.nonfinite++;
        /* where W itself is not finite a drain has no other end */
        if (h->desc.guard == HPSGD_GUARD_SKIP || ((h->draining || h->leaving) && !h->flying)) {
            for (i = 0; i < h->desc.params.count; i++)
                weft_data_zero(WEFT_GPU_IN(h->map), h->payload[i].data,
                               h->payload[i].count * weft_dtype_bytes(h->payload[i].dtype));
            h->stats.steps_lost += h->flying;
            h->flying = h->unsound = 0;
            hpsgd_copy(h, 0);
        }
    }
    h->left_over = h->desc.payload == HPSGD_PAYLOAD_BF16 && hpsgd_payload_moves(h);
    if (h->draining || h->leaving) h->flushes++;
    hpsgd_narrow(h);
    h->stats.launches++;
    h->events |= HPSGD_LAUNCHED;
    hpsgd_begin_round(h);
}

/* x is W, and nothing is under way anywhere. */
WEFT_FN void hpsgd_drained(hpsgd *h) {
    hpsgd_copy(h, 0);
    h->n = 0;
    h->left_over = h->draining = 0;
    h->stats.drains++;
    h->events |= HPSGD_DRAINED;
}

/* Takes in the round that is done. */
WEFT_FN void hpsgd_merge(hpsgd *h) {
    hpsgd_pass(h, 0, 1, 0, 0.0);
    hpsgd_merged(h, h->flying, h->told_steps, h->count);
    hpsgd_narrow(h);
    hpsgd_idle(h);
    if (h->draining && h->all_drain) hpsgd_drained(h);
}

/* The round under way has come to nothing. `spoilt`: for a sum that is not finite. */
WEFT_FN void hpsgd_void_round(hpsgd *h, int spoilt) {
    uint32_t blame = spoilt ? h->reduce.bad : 0;
    int mine = h->unsound ||
               (blame && !h->told_unsound && (blame == weft_nobody(&h->reduce) || blame == h->group.net->rank + 1));
    int again = !mine && h->desc.on_void == HPSGD_REQUEUE && (h->flying > 0 || h->left_over);
    if (again || h->carried != 0.0) {
        hpsgd_pass(h, 0, 0, again, 0.0);
        hpsgd_narrow(h);
    }
    if (again)
        h->n += h->flying;
    else
        h->stats.steps_lost += h->flying;
    if (mine && hpsgd_count_nonfinite(h, HPSGD_OF_X)) {
        hpsgd_copy(h, 0);
        hpsgd_lose_steps(h);
    }
    h->stats.rounds_void++;
    h->events |= HPSGD_VOIDED;
    hpsgd_idle(h);
}

/* The only worker of its view needs nobody's numbers: a round is over at once, and W is what it has. Not in
 * HPSGD_FIXED, where a result comes one phase late whatever the network does. */
WEFT_FN void hpsgd_alone(hpsgd *h) {
    h->round++;
    h->settled = weft_round_id(h->round, h->group.epoch);
    if (hpsgd_count_nonfinite(h, HPSGD_OF_X)) {
        hpsgd_copy(h, 0);
        h->stats.nonfinite++;
        h->stats.rounds_void++;
        h->events |= HPSGD_VOIDED;
        hpsgd_lose_steps(h);
    } else {
        hpsgd_copy(h, 1);
        h->stats.launches++;
        h->events |= HPSGD_LAUNCHED;
        hpsgd_merged(h, h->n, h->n, 1);
    }
    h->n = 0;
    h->left_over = 0;
}

WEFT_FN int hpsgd_more(const hpsgd *h) {
    return h->n > 0 || (h->left_over && h->flushes < HPSGD_FLUSHES);
}

/* A round is done. 0: it waits for more steps. */
WEFT_FN int hpsgd_take(hpsgd *h) {
    int last = h->draining ? h->all_drain : h->leaving && !hpsgd_more(h);
    if (last || (!h->draining && !h->leaving && h->n == 0 && h->desc.mode != HPSGD_FIXED))
        hpsgd_merge(h);
    else if (h->draining || h->leaving || h->n >= h->desc.min_steps)
        hpsgd_launch(h, 1);
    else
        return 0;
    return 1;
}

WEFT_FN void hpsgd_begin_sync(hpsgd *h);

/* Nothing is under way. 0: nothing is to be done, either. */
WEFT_FN int hpsgd_next(hpsgd *h) {
    if (!h->group.synced) {
        if (!h->started) return 0;
        hpsgd_begin_sync(h);
        return 1;
    }
    h->starting = 0;
    if (h->resend) {
        hpsgd_begin_round(h);
        return 1;
    }
    if (!h->draining && !(h->leaving ? hpsgd_more(h) : h->n >= h->desc.min_steps)) {
        if (!h->leaving) return 0;
        hpsgd_phase(h, HPSGD_LEAVING, WEFT_TEXT("saying good-bye"));
        return 1;
    }
    if (h->group.members == 1 && h->desc.mode != HPSGD_FIXED) {
        hpsgd_alone(h);
        if (h->draining) hpsgd_drained(h);
    } else {
        hpsgd_launch(h, 0);
    }
    return 1;
}

/* ---- First contact, and new views ---- */

WEFT_FN void hpsgd_begin_sync(hpsgd *h) {
    uint64_t *f = h->sync.mine;
    /* a second loss before the first is settled changes nothing about the round that was cut short */
    if (h->state != HPSGD_SYNC && h->state != HPSGD_AGREED) h->cut = hpsgd_undecided(h);
    if (h->torn) { /* what a copy has left of W */
        hpsgd_copy(h, 1);
        hpsgd_lose_steps(h);
        h->torn = 0;
    }
    /* whoever was to be given the global model, and lost all who had it, knows of no round */
    if (!h->joined) h->round = h->settled = 0;
    f[WEFT_SYNC_COMMITTED] = h->settled;
    f[WEFT_SYNC_HAVE] = h->have;
    f[WEFT_SYNC_FRESH] = (h->joined ? 0u : (unsigned)HPSGD_SYNC_FRESH) | (h->cut ? (unsigned)HPSGD_SYNC_CUT : 0u) |
                         (uint64_t)h->begun_in << HPSGD_SYNC_EPOCH;
    f[WEFT_SYNC_HASH] = h->contacted && h->settled ? 0 : hpsgd_hash(h) | 1u; /* 0: nothing to compare */
    hpsgd_phase(h, HPSGD_SYNC, WEFT_TEXT("agreeing on a view"));
    h->group.phase_round = h->round;
    weft_sync_begin(&h->sync, &h->group);
}

/* W goes from `root` to those who are new and have another. */
WEFT_FN int hpsgd_takes_over(const hpsgd *h, uint32_t rank, uint32_t root) {
    return (weft_sync_field(&h->sync, rank, WEFT_SYNC_FRESH) & HPSGD_SYNC_FRESH) &&
           weft_sync_field(&h->sync, rank, WEFT_SYNC_HASH) != weft_sync_field(&h->sync, root, WEFT_SYNC_HASH);
}

WEFT_FN void hpsgd_begin_copy(hpsgd *h, uint32_t root) {
    weft_group *g = &h->group;
    weft_range out = weft_range_map(&h->map, NULL, h->w, 0, 0, weft_map_bytes(&h->map)), in = out;
    uint32_t i;
    WEFT_GPU_SETTLE(h->map); /* W has been written */
    h->torn = hpsgd_takes_over(h, g->net->rank, root);
    if (g->net->rank != root && !h->torn) return;
    hpsgd_phase(h, HPSGD_COPYING, WEFT_TEXT("copying the global model"));
    weft_group_begin(g, WEFT_KIND_EXCHANGE, h->round, HPSGD_STEP_COPY);
    if (h->torn) {
        weft_group_flow(g, root, NULL, &in, 0);
        return;
    }
    for (i = 0; i < g->members; i++)
        if (hpsgd_takes_over(h, g->member[i], root)) weft_group_flow(g, g->member[i], &out, NULL, 0);
}

/* This worker has the view's W. */
WEFT_FN weft_status hpsgd_joined(hpsgd *h) {
    if (!h->contacted && hpsgd_count_nonfinite(h, HPSGD_OF_W))
        return weft_group_break(&h->group, WEFT_ERR_NONFINITE, WEFT_NO_RANK, WEFT_TEXT("initial parameters"), 0,
                                hpsgd_count_nonfinite(h, HPSGD_OF_W));
    if (h->torn) {
        hpsgd_copy(h, 0);
        hpsgd_lose_steps(h);
        h->torn = 0;
    }
    h->joined = h->contacted = 1;
    hpsgd_idle(h);
    return WEFT_OK;
}

/* All members have agreed: what becomes of the round that was under way, and of those who are new? */
WEFT_FN weft_status hpsgd_settle(hpsgd *h) {
    weft_group *g = &h->group;
    uint64_t committed = h->sync.committed_id, hash = 0;
    uint32_t i, root = WEFT_NO_RANK, fresh = 0;
    for (i = 0; i < g->members; i++) {
        uint32_t r = g->member[i];
        uint64_t marks = weft_sync_field(&h->sync, r, WEFT_SYNC_FRESH);
        uint64_t last = weft_sync_field(&h->sync, r, WEFT_SYNC_COMMITTED);
        if (marks & HPSGD_SYNC_FRESH) {
            fresh++;
            continue;
        }
        if (root == WEFT_NO_RANK) root = r;
        /* one round behind is who was cut short in it: in that very one, not one that others began without this
         * worker */
        if (last != committed && !weft_sync_commits(&h->sync, weft_sync_field(&h->sync, r, WEFT_SYNC_HAVE)) &&
            !((marks & HPSGD_SYNC_CUT) &&
              weft_round_id((last & WEFT_ROUND_MASK) + 1, (uint32_t)(marks >> HPSGD_SYNC_EPOCH)) == committed))
            return weft_group_break(g, WEFT_ERR_MISMATCH, r, WEFT_TEXT("round"), committed, last);
    }
    for (i = 0; i < g->members; i++) { /* models that nobody has compared yet, and that stay */
        uint32_t r = g->member[i];
        uint64_t theirs = weft_sync_field(&h->sync, r, WEFT_SYNC_HASH);
        int new_here = (weft_sync_field(&h->sync, r, WEFT_SYNC_FRESH) & HPSGD_SYNC_FRESH) != 0;
        if (!theirs || (new_here && (fresh < g->members || h->desc.initial == HPSGD_INITIAL_COPY))) continue;
        if (hash && theirs != hash)
            return weft_group_break(g, WEFT_ERR_MISMATCH, r, WEFT_TEXT("hash of the initial parameters"), hash, theirs);
        hash = theirs;
    }
    if (h->desc.initial == HPSGD_INITIAL_COPY && fresh == g->members) {
        root = h->desc.initial_rank;
        if (!g->peer[root].member && g->net->rank != root)
            return weft_group_break(g, WEFT_ERR_ARGUMENT, root, WEFT_TEXT("initial_rank (not a member)"), 1, 0);
    }
    if (weft_sync_commits(&h->sync, h->have)) {
        hpsgd_done(h);
        hpsgd_merge(h);
    } else if (h->cut) {
        weft_group_trace(g, WEFT_EVENT_ABANDONED, WEFT_NO_RANK, h->round + 1, 0);
        hpsgd_void_round(h, 0);
    }
    h->round = h->sync.committed;
    h->settled = committed;
    h->have = 0;
    h->cut = 0;
    hpsgd_idle(h);
    if (root != WEFT_NO_RANK) hpsgd_begin_copy(h, root);
    return h->state == HPSGD_IDLE ? hpsgd_joined(h) : WEFT_OK;
}

/* ---- Driving ---- */

/* Everything that can be done at a step boundary without waiting. WEFT_OK, WEFT_AGAIN (something waits for the network)
 * or an error. */
WEFT_FN weft_status hpsgd_turn(hpsgd *h) {
    int bound;
    for (bound = 0; bound < 64; bound++) {
        weft_status s = hpsgd_mine(h) ? hpsgd_drive(h) : WEFT_AGAIN;
        if (s != WEFT_OK) return s;
        switch (h->state) {
        case HPSGD_AGREED: s = hpsgd_settle(h); break;
        case HPSGD_COPIED: s = hpsgd_joined(h); break;
        case HPSGD_SPOILT: /* FIXED: at the end of the phase, as if it were done */
            if (h->desc.mode == HPSGD_FIXED && !h->draining && !h->leaving && h->n < h->desc.min_steps) return WEFT_OK;
            hpsgd_void_round(h, 1);
            break;
        case HPSGD_DONE:
            if (!hpsgd_take(h)) return WEFT_OK;
            break;
        case HPSGD_IDLE:
            if (!hpsgd_next(h)) return WEFT_OK;
            break;
        default: return WEFT_OK;
        }
        if (s != WEFT_OK) return s;
    }
    return WEFT_AGAIN;
}

/* ---- Verbs ---- */

/* An error of the object's own, whoever drives the network. */
WEFT_FN WEFT_NOINLINE weft_status hpsgd_fail(hpsgd *h, weft_status s, uint32_t peer, const char *field,
                                             uint64_t expected, uint64_t got) {
    h->detail = weft_detail_none();
    h->detail.peer = peer;
    h->detail.phase = WEFT_TEXT("a call");
    return weft_refuse(&h->detail, s, field, expected, got);
}

/* A verb begins. `live`: not after good-bye; `free`: no start, drain or good-bye may be in progress. */
WEFT_FN weft_status hpsgd_enter(hpsgd *h, int live, int free) {
    if (!h || h->magic != HPSGD_MAGIC) return WEFT_ERR_ARGUMENT;
    if (h->busy) return WEFT_ERR_REENTRY;
    if (live && hpsgd_mine(h) && h->state >= HPSGD_LEFT)
        return hpsgd_fail(h, WEFT_ERR_ORDER, WEFT_NO_RANK, WEFT_TEXT("state (has left)"), 0, (uint64_t)h->state);
    if (free && (h->draining || h->leaving))
        return hpsgd_fail(h, WEFT_ERR_ORDER, WEFT_NO_RANK, WEFT_TEXT("state (draining or leaving)"), 0, 1);
    h->busy = 1;
    h->detail = weft_detail_none();
    return WEFT_OK;
}

WEFT_FN WEFT_NOINLINE weft_status hpsgd_exit(hpsgd *h, weft_status s) {
    const weft_status device = WEFT_GPU_BREAKS_GROUP(&h->group);
    h->busy = 0;
    if (device < 0) { /* whatever else came of it */
        h->detail = h->group.detail;
        s = device;
    }
    if (s != WEFT_OK && h->detail.status == WEFT_OK) h->detail.status = s;
    return s;
}

/* What the host may do now: after everything that could be done has been. */
WEFT_FN weft_status hpsgd_answer(hpsgd *h, weft_status s, int stepping) {
    int mine = hpsgd_mine(h);
    int training = stepping || !(h->draining || h->leaving || h->starting);
    int under_way = !mine || (h->state >= HPSGD_RECORD && h->state <= HPSGD_SPOILT); /* it may have come just now */
    int stall = h->desc.mode == HPSGD_BLOCKING && under_way;
    if (s < 0 && mine) h->detail = h->group.detail;
    if (s < 0 && s != WEFT_ERR_TIMEOUT) return hpsgd_exit(h, s);
    if (mine && h->state == HPSGD_LEFT) return hpsgd_exit(h, WEFT_OK);
    if (h->n >= h->desc.max_steps && s != WEFT_OK) stall = 1;
    if (stall && training) {
        if (!h->stalled) h->stats.stalls++;
        h->stalled = 1;
        h->events |= HPSGD_STALLED;
    } else if (training) {
        h->stalled = 0;
        s = WEFT_OK;
        h->detail = weft_detail_none();
    }
    if (training && !stall && !h->waiting) hpsgd_hand_over(h);
    if (training && stall && !mine) HPSGD_RELEASE(&h->stop, 1u); /* it is waited for: here */
    if (s == WEFT_ERR_TIMEOUT || s == WEFT_OK) {
        if (s == WEFT_OK && stall && training) s = WEFT_STALL;
        if (s == WEFT_OK && !training) s = WEFT_AGAIN;
        return hpsgd_exit(h, s);
    }
    return hpsgd_exit(h, training ? WEFT_STALL : WEFT_AGAIN);
}

HPSGD_API weft_status hpsgd_start(hpsgd *h) {
    weft_status s = hpsgd_enter(h, 1, 1);
    if (s != WEFT_OK) return s;
    h->events = 0;
    if (!h->started && h->stats.steps == 0 && h->round == 0)
        hpsgd_copy(h, 1); /* they may have been filled in since init */
    h->started = 1;
    if (!h->contacted) h->starting = 1;
    return hpsgd_answer(h, hpsgd_turn(h), 0);
}

HPSGD_API weft_status hpsgd_step(hpsgd *h) {
    weft_status s = hpsgd_enter(h, 1, 1);
    if (s != WEFT_OK) return s;
    h->events = 0;
    if (!h->stalled) {
        h->n++;
        h->stats.steps++;
    }
    h->started = 1;
    return hpsgd_answer(h, hpsgd_turn(h), 1);
}

HPSGD_API weft_status hpsgd_poll(hpsgd *h) {
    weft_status s = hpsgd_enter(h, 0, 0);
    if (s != WEFT_OK) return s;
    h->events = 0;
    return hpsgd_answer(h, hpsgd_turn(h), 0);
}

HPSGD_API weft_status hpsgd_progress(hpsgd *h) {
    weft_status s = hpsgd_enter(h, 0, 0);
    if (s != WEFT_OK) return s;
    if (!hpsgd_mine(h)) return hpsgd_exit(h, WEFT_OK);
    s = hpsgd_drive(h);
    if (s < 0 && s != WEFT_ERR_TIMEOUT) {
        h->detail = h->group.detail;
        return hpsgd_exit(h, s);
    }
    return hpsgd_exit(h, WEFT_OK);
}

HPSGD_API weft_status hpsgd_wait(hpsgd *h) {
    for (;;) {
        weft_status s;
        const weft_transport *net;
        uint64_t until = UINT64_MAX;
        int mine = h && h->magic == HPSGD_MAGIC && !h->busy;
        if (mine) {
            hpsgd_recall(h);
            h->waiting = 1;
        }
        s = hpsgd_poll(h);
        if (mine) h->waiting = 0;
        if (s != WEFT_AGAIN && s != WEFT_STALL) {
            if (s == WEFT_OK && mine) hpsgd_hand_over(h);
            return s;
        }
        net = h->group.net;
        if (!net->wait) continue;
        if (net->now && h->desc.timeout_ns) {
            uint64_t now = net->now(net->ctx);
            if (h->desc.timeout_ns < until - now) until = now + h->desc.timeout_ns;
        }
        net->wait(net->ctx, until);
    }
}

HPSGD_API weft_status hpsgd_drain(hpsgd *h) {
    weft_status s = hpsgd_enter(h, 1, 0);
    if (s != WEFT_OK) return s;
    if (h->leaving)
        return hpsgd_exit(h, hpsgd_fail(h, WEFT_ERR_ORDER, WEFT_NO_RANK, WEFT_TEXT("state (leaving)"), 0, 1));
    h->events = 0;
    if (!h->draining) h->flushes = 0;
    h->draining = h->started = 1;
    h->stalled = 0;
    return hpsgd_answer(h, hpsgd_turn(h), 0);
}

HPSGD_API weft_status hpsgd_leave(hpsgd *h) {
    weft_status s = hpsgd_enter(h, 1, 1);
    if (s != WEFT_OK) return s;
    h->events = 0;
    h->flushes = 0;
    h->leaving = h->started = 1;
    h->stalled = 0;
    return hpsgd_answer(h, hpsgd_turn(h), 0);
}

HPSGD_API weft_status hpsgd_model(hpsgd *h, const weft_tensors *into) {
    weft_status s = hpsgd_enter(h, 0, 0);
    weft_tensors work;
    size_t i;
    if (s != WEFT_OK) return s;
    work.tensor = h->work;
    work.count = h->desc.params.count;
    if (!into) return hpsgd_exit(h, hpsgd_fail(h, WEFT_ERR_ARGUMENT, WEFT_NO_RANK, WEFT_TEXT("into"), 1, 0));
    if ((s = weft_tensors_check(into, 0, &h->detail)) != WEFT_OK ||
        (s = weft_tensors_match(&work, into, &h->detail)) != WEFT_OK)
        return hpsgd_exit(h, s);
    for (i = 0; i < work.count; i++)
        if (into->tensor[i].dtype != work.tensor[i].dtype)
            return hpsgd_exit(h, hpsgd_fail(h, WEFT_ERR_ARGUMENT, WEFT_NO_RANK, WEFT_TEXT("into.dtype"),
                                            (uint64_t)work.tensor[i].dtype, (uint64_t)into->tensor[i].dtype));
    for (i = 0; i < work.count; i++)
        if (work.tensor[i].count)
            weft_data_copy(WEFT_GPU_IN(h->map), into->tensor[i].data, hpsgd_w(h, i),
                           work.tensor[i].count * weft_dtype_bytes(work.tensor[i].dtype));
    return hpsgd_exit(h, WEFT_OK);
}

WEFT_FN weft_status hpsgd_check_rank(hpsgd *h, uint32_t rank) {
    if (rank < h->group.net->size && rank != h->group.net->rank) return WEFT_OK;
    return hpsgd_fail(h, WEFT_ERR_ARGUMENT, rank, WEFT_TEXT("rank"), h->group.net->size, rank);
}

HPSGD_API weft_status hpsgd_peer_lost(hpsgd *h, uint32_t rank) {
    weft_status s = hpsgd_enter(h, 1, 0);
    if (s != WEFT_OK) return s;
    hpsgd_recall(h);
    if ((s = hpsgd_check_rank(h, rank)) == WEFT_OK) weft_group_lose(&h->group, rank);
    return hpsgd_exit(h, s);
}

HPSGD_API weft_status hpsgd_peer_up(hpsgd *h, uint32_t rank) {
    weft_status s = hpsgd_enter(h, 1, 0);
    if (s != WEFT_OK) return s;
    hpsgd_recall(h);
    if ((s = hpsgd_check_rank(h, rank)) == WEFT_OK) h->group.peer[rank].lost = h->group.peer[rank].left = 0;
    return hpsgd_exit(h, s);
}

HPSGD_API weft_status hpsgd_regroup(hpsgd *h, const weft_view *view) {
    weft_status s = hpsgd_enter(h, 1, 0);
    if (s != WEFT_OK) return s;
    hpsgd_recall(h);
    s = weft_group_check_view(&h->group, view);
    if (s != WEFT_OK) {
        h->detail = h->group.detail;
        return hpsgd_exit(h, s);
    }
    h->events = 0;
    /* what is decided is taken first */
    if (h->state == HPSGD_DONE) hpsgd_merge(h);
    if (h->state == HPSGD_SPOILT) hpsgd_void_round(h, 1);
    weft_reduce_cancel(&h->reduce);
    weft_group_set_view(&h->group, view);
    h->started = h->starting = 1;
    hpsgd_begin_sync(h);
    return hpsgd_answer(h, hpsgd_turn(h), 0);
}

/* ---- Saved state ---- */

/* Is it known which global model is to be saved? Not while a view decides on a round, or on whose model it is. */
WEFT_FN int hpsgd_settled(const hpsgd *h) {
    if (h->state == HPSGD_COPYING || h->state == HPSGD_COPIED || h->cut) return 0;
    return h->joined || h->desc.initial == HPSGD_INITIAL_CHECK;
}

/* All of it in order: measured, written and read by the same lines. */
WEFT_FN void hpsgd_blob(hpsgd *h, weft_blob *b, uint64_t *in_flight) {
    uint64_t *counters[18], round = h->round, min = h->desc.min_steps, max = h->desc.max_steps,
                            on_void = (uint64_t)h->desc.on_void, left_over = h->left_over != 0;
    size_t i, n = 0;
    if (h->state == HPSGD_DONE || h->state == HPSGD_SPOILT) round--; /* not taken in: it is done again */
    counters[n++] = in_flight;
    counters[n++] = &round;
    counters[n++] = &h->n;
    counters[n++] = &h->flying;
    counters[n++] = &min;
    counters[n++] = &max;
    counters[n++] = &on_void;
    counters[n++] = &left_over;
    counters[n++] = &h->stats.steps;
    counters[n++] = &h->stats.steps_merged;
    counters[n++] = &h->stats.steps_lost;
    counters[n++] = &h->stats.rounds;
    counters[n++] = &h->stats.rounds_void;
    counters[n++] = &h->stats.nonfinite;
    counters[n++] = &h->stats.launches;
    counters[n++] = &h->stats.stalls;
    counters[n++] = &h->stats.drains;
    for (i = 0; i < n; i++) weft_blob_u64(b, counters[i]);
    weft_blob_double(b, &h->carried);
    WEFT_GPU_USE(*b, &h->desc, &h->gpu);
    for (i = 0; i < h->desc.params.count; i++) {
        size_t each = weft_dtype_bytes(h->work[i].dtype);
        weft_blob_raw(b, hpsgd_w(h, i), h->work[i].count * each, each);
    }
    for (i = 0; *in_flight && i < h->desc.params.count; i++) {
        size_t each = weft_dtype_bytes(h->payload[i].dtype);
        weft_blob_raw(b, h->payload[i].data, h->payload[i].count * each, each);
    }
    if (!b->read || b->status != WEFT_OK) return;
    h->round = h->settled = round; /* of no view */
    h->desc.min_steps = min <= UINT32_MAX ? (uint32_t)min : 0;
    h->desc.max_steps = max <= UINT32_MAX ? (uint32_t)max : 0;
    h->desc.on_void = on_void == HPSGD_REQUEUE ? HPSGD_REQUEUE : HPSGD_DROP;
    h->left_over = left_over != 0;
    if (on_void > HPSGD_DROP || left_over > 1) b->status = WEFT_ERR_ARGUMENT; /* nothing that was saved */
    h->resend = *in_flight != 0;
    h->joined = 1;
}

WEFT_FN size_t hpsgd_blob_bytes(hpsgd *h, uint64_t in_flight) {
    weft_blob b;
    memset(&b, 0, sizeof b);
    b.at = WEFT_BLOB_HEAD;
    hpsgd_blob(h, &b, &in_flight);
    return b.at + WEFT_BLOB_TAIL;
}

HPSGD_API weft_status hpsgd_save_to(hpsgd *h, weft_write_fn write, void *ctx, size_t *bytes) {
    weft_blob b;
    weft_detail why = weft_detail_none();
    uint64_t in_flight;
    weft_status s = hpsgd_enter(h, 1, 1);
    if (s != WEFT_OK) return s;
    hpsgd_recall(h);
    if (h->stalled)
        return hpsgd_exit(h, hpsgd_fail(h, WEFT_ERR_ORDER, WEFT_NO_RANK, WEFT_TEXT("state (stalled)"), 0, 1));
    in_flight = h->state >= HPSGD_RECORD || h->resend;
    if ((in_flight && !h->desc.keep_delta) || !hpsgd_settled(h)) return hpsgd_exit(h, WEFT_AGAIN);
    s = weft_blob_begin(&b, write, ctx, hpsgd_blob_bytes(h, in_flight), hpsgd_blob_fingerprint(h), bytes, &why);
    if (s == WEFT_OK) {
        hpsgd_blob(h, &b, &in_flight);
        s = weft_blob_end(&b, 1, &why);
    }
    if (s != WEFT_OK) (void)hpsgd_fail(h, s, WEFT_NO_RANK, why.field, why.expected, why.got);
    return hpsgd_exit(h, s);
}

HPSGD_API weft_status hpsgd_save(hpsgd *h, void *buf, size_t capacity, size_t *bytes) {
    weft_blob_buffer m;
    m.to = (unsigned char *)buf;
    m.bytes = capacity;
    return hpsgd_save_to(h, buf ? weft_blob_to_buffer : NULL, &m, bytes);
}

/* A blob may have a valid checksum and still be hostile. */
WEFT_FN int hpsgd_blob_sane(hpsgd *h, uint64_t in_flight) {
    const hpsgd_stats_t *s = &h->stats;
    if (in_flight > 1 || (in_flight && !h->desc.keep_delta) || h->round > WEFT_ROUND_MASK / 2) return 0;
    if (!h->desc.min_steps || h->desc.min_steps > h->desc.max_steps ||
        (h->desc.mode != HPSGD_FREE && h->desc.min_steps != h->desc.max_steps) ||
        (h->desc.on_void == HPSGD_REQUEUE && !h->desc.keep_delta))
        return 0;
    if (!(h->carried >= 0 && h->carried <= 1) || (!in_flight && (h->carried != 0.0 || h->flying))) return 0;
    if (s->steps_merged > s->steps || s->steps_lost > s->steps - s->steps_merged ||
        h->n > s->steps - s->steps_merged - s->steps_lost ||
        h->flying != s->steps - s->steps_merged - s->steps_lost - h->n || s->rounds > h->round)
        return 0;
    return hpsgd_count_nonfinite(h, HPSGD_OF_W) == 0;
}

HPSGD_API weft_status hpsgd_load_from(hpsgd *h, weft_read_fn read, void *ctx, size_t bytes) {
    weft_blob b;
    weft_detail why = weft_detail_none();
    hpsgd_desc keep;
    uint64_t in_flight = 0;
    size_t idle;
    weft_status s = hpsgd_enter(h, 1, 1);
    if (s != WEFT_OK) return s;
    if (!(hpsgd_state(h) & HPSGD_MAY_LOAD))
        return hpsgd_exit(h, hpsgd_fail(h, WEFT_ERR_ORDER, WEFT_NO_RANK, WEFT_TEXT("steps"), 0, h->stats.steps));
    idle = hpsgd_blob_bytes(h, 0);
    s = weft_blob_check(&b, read, ctx, bytes, bytes > idle ? hpsgd_blob_bytes(h, 1) : idle, hpsgd_blob_fingerprint(h),
                        &why);
    if (s == WEFT_OK) {
        keep = h->desc;
        hpsgd_blob(h, &b, &in_flight);
        s = weft_blob_end(&b, hpsgd_blob_sane(h, in_flight), &why);
        if (s == WEFT_OK) return hpsgd_exit(h, WEFT_OK);
        h->desc = keep;
        h->left_over = 0;
        hpsgd_begin_afresh(h);
        weft_data_zero(WEFT_GPU_IN(h->map), h->sent, weft_map_bytes(&h->payload_map));
    }
    return hpsgd_exit(h, hpsgd_fail(h, s, WEFT_NO_RANK, why.field, why.expected, why.got));
}

HPSGD_API weft_status hpsgd_load(hpsgd *h, const void *buf, size_t bytes) {
    weft_blob_buffer m;
    m.from = (const unsigned char *)buf;
    return hpsgd_load_from(h, buf ? weft_blob_from_buffer : NULL, &m, bytes);
}

/* ---- Setters ---- */

HPSGD_API weft_status hpsgd_set_steps(hpsgd *h, uint32_t min_steps, uint32_t max_steps) {
    weft_status s = hpsgd_enter(h, 1, 1);
    if (s != WEFT_OK) return s;
    if (h->desc.mode == HPSGD_FIXED && !min_steps) min_steps = max_steps;
    if (h->desc.mode == HPSGD_FIXED && !max_steps) max_steps = min_steps;
    if (h->desc.mode == HPSGD_BLOCKING && !max_steps) max_steps = min_steps;
    if (h->desc.mode == HPSGD_BLOCKING && !min_steps) min_steps = max_steps;
    if (!min_steps) min_steps = h->desc.min_steps;
    if (!max_steps) max_steps = h->desc.max_steps;
    if (min_steps > max_steps || (h->desc.mode != HPSGD_FREE && min_steps != max_steps))
        return hpsgd_exit(h,
                          hpsgd_fail(h, WEFT_ERR_ARGUMENT, WEFT_NO_RANK, WEFT_TEXT("min_steps"), max_steps, min_steps));
    h->desc.min_steps = min_steps;
    h->desc.max_steps = max_steps;
    return hpsgd_exit(h, WEFT_OK);
}

HPSGD_API weft_status hpsgd_set_void(hpsgd *h, hpsgd_void on_void) {
    weft_status s = hpsgd_enter(h, 1, 0);
    if (s != WEFT_OK) return s;
    if ((uint32_t)on_void > HPSGD_DROP)
        s = hpsgd_fail(h, WEFT_ERR_ARGUMENT, WEFT_NO_RANK, WEFT_TEXT("on_void"), HPSGD_DROP, (uint64_t)on_void);
    else if (on_void == HPSGD_REQUEUE && !h->desc.keep_delta)
        s = hpsgd_fail(h, WEFT_ERR_UNSUPPORTED, WEFT_NO_RANK, WEFT_TEXT("on_void (keep_delta is off)"), 0, 0);
    else
        h->desc.on_void = on_void;
    return hpsgd_exit(h, s);
}

/* ---- Reading ---- */

HPSGD_API void hpsgd_stats(const hpsgd *h, hpsgd_stats_t *out) {
    if (!h || !out) return;
    *out = h->stats;
    out->steps_pending = h->n + h->flying;
    if (h->beside && HPSGD_ACQUIRE(&h->hand) == HPSGD_BESIDE) {
        out->members = h->stats.members;
        return;
    }
    out->members = h->group.members;
    out->traffic = h->group.traffic;
}

HPSGD_API void hpsgd_effective(const hpsgd *h, hpsgd_desc *out) {
    if (h && out) *out = h->desc;
}

HPSGD_API uint32_t hpsgd_members(const hpsgd *h, uint32_t *ranks, uint32_t capacity) {
    uint32_t i, n;
    const uint32_t *member;
    int mine;
    if (!h) return 0;
    mine = !h->beside || HPSGD_ACQUIRE(&h->hand) != HPSGD_BESIDE;
    n = mine ? h->group.members : (uint32_t)h->stats.members;
    member = mine ? h->group.member : h->seen;
    for (i = 0; ranks && i < n && i < capacity; i++) ranks[i] = member[i];
    return n;
}

HPSGD_API const weft_detail *hpsgd_detail(const hpsgd *h) {
    return h ? &h->detail : NULL;
}

HPSGD_API uint32_t hpsgd_state(const hpsgd *h) {
    int state;
    uint32_t bits = HPSGD_MAY_REGROUP;
    if (!h || h->magic != HPSGD_MAGIC) return 0;
    state = h->beside && HPSGD_ACQUIRE(&h->hand) == HPSGD_BESIDE ? HPSGD_RECORD : h->state;
    if (state >= HPSGD_LEFT) return 0;
    if (state >= HPSGD_RECORD && state <= HPSGD_SPOILT) bits |= HPSGD_IN_FLIGHT;
    if (h->draining || h->leaving || h->starting || h->stalled || (state != HPSGD_IDLE && state != HPSGD_DONE))
        bits |= HPSGD_MAY_POLL;
    if (h->draining || h->leaving) return bits;
    bits |= HPSGD_MAY_STEP;
    if (!h->stalled) bits |= HPSGD_MAY_SAVE;
    if (state == HPSGD_IDLE && !h->started && !h->joined && h->stats.steps == 0) bits |= HPSGD_MAY_LOAD;
    return bits;
}

HPSGD_API uint32_t hpsgd_events(const hpsgd *h) {
    return h ? h->events : 0;
}

HPSGD_API void hpsgd_close(hpsgd *h) {
    if (!h || h->magic != HPSGD_MAGIC || h->busy) return;
    hpsgd_recall(h);
    weft_reduce_cancel(&h->reduce);
    weft_group_close(&h->group);
    h->state = HPSGD_CLOSED;
    h->magic = 0;
}
