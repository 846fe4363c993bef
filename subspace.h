/* SPDX-License-Identifier: MIT
 * Generated from src/ by `make headers`: edit the files there, never this one.
 * subspace.h: gradient aggregation in the gradients' own subspace (AdaCons), in plain C, for training processes of any
 * framework: what takes the place of the mean of the workers' gradients.
 *
 * N workers have gradients g_1 .. g_N of the same model. Their mean weighs all alike. AdaCons looks for the step inside
 * the span of the gradients: worker i counts by how far its direction agrees with the consensus,
 *     alpha_i = <g_i / |g_i|, mean of all g>,   w = alpha / sum(alpha),   psi = sum_i w_i g_i / |g_i|,
 * with an exponential average of the alphas over steps, kept for their order statistics (the k-th smallest has an
 * identity; worker k, which holds other data each step, has not).
 * Y. Choukroun, S. Azoulay, P. Kisilev, arXiv 2411.03742; where it is silent, the authors' published code decides, but
 * for `assignment` (see there).
 *
 * ---- Quick start ----
 *
 *   #define SUBSPACE_IMPLEMENTATION            // in exactly one source file
 *   #include "subspace.h"
 *
 *   weft_tensor t[] = { {dw1, n1, WEFT_F32}, {db1, n2, WEFT_F32} };    // your gradients, where backward leaves them
 *   weft_transport net = weft_transport_make(&my_net, rank, size, my_send, my_recv, my_test, my_cancel, my_now);
 *
 *   subspace_desc d = {sizeof d};              // zero is the default everywhere
 *   d.gradients.tensor = t; d.gradients.count = 2; d.transport = &net;
 *   d.momentum = 0.99; d.timeout_ns = 60000000000u;
 *   size_t bytes = subspace_memory(&d, NULL);  // exact; a report names every buffer
 *   subspace *a; weft_status s = subspace_init(&a, &d, malloc(bytes), bytes);
 *   if (s < 0) return fail(weft_strerror(s), NULL);
 *
 *   for (;;) {
 *       backward(model);
 *       s = subspace_aggregate(a);             // blocking; the gradients now hold the aggregate, the same on all
 *       if (s != WEFT_OK) return fail(weft_strerror(s), subspace_detail(a));
 *       optimiser(model);
 *   }
 *   if ((s = subspace_leave(a)) == WEFT_AGAIN) s = subspace_wait(a);    // a loss may show here, too: see below
 *   subspace_close(a);
 *
 * The five callbacks are your network, or an adapter: their rules are "The transport contract", below; set net.wait,
 * too, if it can sleep. weft_transport_selftest tries yours. After WEFT_ERR_TIMEOUT one may wait again, as long again.
 *
 * So that the exchange runs beside the backward pass: subspace_submit(a, first, count) as soon as the gradients of
 * tensors first .. first + count - 1 are ready (in the same order on all workers), subspace_poll whenever you like, and
 * subspace_wait after the last.
 *
 * ---- After a loss ----
 *
 * When a verb says WEFT_ERR_PEER_LOST, all that are left agree outside of this header on who that is, and each gives
 * the same view under the same, higher epoch:
 *
 *   do {
 *       weft_view view = {sizeof view, ++epoch, count, ranks};      // ascending, with your own; copied
 *       if ((s = subspace_regroup(a, &view)) == WEFT_AGAIN) s = subspace_wait(a);
 *   } while (s == WEFT_ERR_PEER_LOST);          // another one (subspace_detail(a)->peer): once more, without it, too
 *
 * Then WEFT_OK: if tensors of this step had been submitted, the gradients hold the aggregate, and are not to be
 * submitted again (the loss may show after the round has been committed here: stats.rounds has counted it then); if
 * none had, nothing has happened. WEFT_WANT_GRADIENT: submit all of them again. A leave that was under way has been
 * carried to its end. Whoever is done leaves, polls until WEFT_OK, and closes: to end without it may cost the others
 * their last round; those who stay need no regroup for a good-bye. Who leaves tells whoever makes the views before its
 * process ends: it may never have noticed a loss, and a view that names it waits for it.
 *
 * ---- The verbs ----
 *
 * Every verb does a bounded amount of work (but subspace_aggregate and subspace_wait, which poll until there is
 * something to say) and returns: WEFT_OK (done: nothing is in progress), WEFT_AGAIN (in progress: call subspace_poll
 * until it says something else), WEFT_WANT_GRADIENT (the round waits for tensors that are not submitted yet; or, after
 * a regroup, the round has been abandoned: submit all again), or an error (< 0; subspace_detail names who and where).
 * Submitted gradients are lent to the library until WEFT_OK: do not write them. A round commits wholly or not at all:
 * until it commits, the gradients are untouched. subspace_state tells which verbs are legal now; a wrong one is
 * WEFT_ERR_ORDER and changes nothing. One object belongs to one thread at a time. No verb allocates, prints or reads
 * the environment.
 *
 * ---- Which verb when ----
 *
 *                             fresh    idle     busy     lost     left
 *   subspace_submit           y        y        -        -        -
 *   subspace_aggregate        y        y        y        y        -
 *   subspace_poll             y        y        y        y        y
 *   subspace_wait             y        y        y        y        y
 *   subspace_combine          y        y        -        -        -
 *   subspace_set_batch        y        y        -        -        -
 *   subspace_leave            y        y        -        -        -
 *   subspace_regroup          y        y        y        y        -
 *   subspace_peer_lost        y        y        y        y        -
 *   subspace_peer_up          y        y        y        y        -
 *   subspace_save             y        y        -        -        -
 *   subspace_save_to          y        y        -        -        -
 *   subspace_load             y        -        -        -        -
 *   subspace_load_from        y        -        -        -        -
 *
 * fresh: nothing has been called, or setters only. idle: between rounds. busy: a verb has returned WEFT_AGAIN, or
 * tensors are submitted (subspace_submit of those that are not yet). lost: a worker is lost and the view is not
 * settled. left: subspace_leave is done. A dash is WEFT_ERR_ORDER and changes nothing; subspace_state tells the same
 * in bits. The readers (stats, effective, detail, worker, scale_of, state) and subspace_close are legal in all; after
 * close nothing is. In busy, subspace_submit takes tensors that have not been submitted; here all of them were.
 *
 * ---- Threads and callbacks ----
 *
 * One object belongs to one thread at a time; any number of objects may live in a process, each with a `channel` of
 * its own on a shared transport. Transport callbacks and `trace` are called by the thread that called the verb, from
 * within it; the pool's parallel_for is, too, and its bodies run on the pool's threads and call nothing of yours. A
 * callback that calls a verb of its object gets WEFT_ERR_REENTRY; readers and verbs of other objects are allowed.
 * Callbacks must return: only `wait` may sleep.
 *
 * ---- Errors, and what to do ----
 *
 * WEFT_ERR_, all below 0; subspace_detail names peer, phase, field and both values.
 *
 *   ARGUMENT, ABI, MEMORY, OVERFLOW             a descriptor or an argument is wrong: detail.field names it, with what
 *                                               is expected and what was got; nothing has happened
 *   FLOAT_ENV, UNSUPPORTED                      of init: floats are not computed as they must be, or the setting does
 *                                               not exist here
 *   ORDER, REENTRY                              a dash of the table; a verb called from its own callback; nothing has
 *                                               happened
 *   PEER_LOST                                   a member is gone (detail.peer): subspace_regroup with the same new
 *                                               view on all that are left, then poll on
 *   PROTOCOL, TRUNCATED, CHECKSUM, TRANSPORT    a message made no sense, or a callback failed: every verb that
 *                                               communicates says so from now on, until subspace_regroup (without
 *                                               whoever it was), or subspace_close
 *   TIMEOUT                                     nothing has moved for timeout_ns: poll on, or tell of a loss
 *                                               (subspace_peer_lost)
 *   MISMATCH, VERSION                           a worker has other settings, or another version of this header: detail
 *                                               has both values; no number has been mixed. Mend it and begin anew
 *   NONFINITE                                   the round was rejected by all, gradients and state untouched: take
 *                                               another step, or none
 *   CAPACITY                                    of save: detail.expected bytes are needed
 *   ARGUMENT, VERSION, CHECKSUM, MISMATCH       of load: no blob, a damaged one, or one of other settings; the object
 *                                               is as before
 *
 * ---- What a round costs ----
 *
 * The published sequence sums all gradients once for the alphas and once more for the result. Here no sum is formed
 * until the weights are known: worker r receives shard r of every gradient (N - 1 messages of d / N elements), takes
 * its part of all <g_i, s> and <g_i, g_i> (s: the sum of all g) while the shard is in the cache, all exchange these 2 N
 * numbers, and r sends its shard of psi to all. Per worker that is 2 (N - 1) / N times the gradients' bytes on the
 * wire, the same as for the mean, and 24 bytes of memory traffic for each element where the mean has 20.
 * Workers that share their memory (transport->shared: threads of one process) read the shards where they are, and send
 * numbers only (`plan`).
 *
 * ---- Extra memory ----
 *
 * One copy of the gradients, into which the others' pieces and then the aggregate are received, and 64 bytes a worker
 * and chunk of 4 MiB, and a worker and tensor; 2 N^2 + 12 N doubles a group of tensors; about 2 KB a worker for
 * messages, 4 KB more with a pool. subspace_memory names every buffer.
 *
 * With P the bytes of the gradients (each tensor rounded up to 64), on 64-bit machines, without a pool, one group: P +
 * 2.5 KB N + 16 N^2 + 2 KB bytes, and 1 KB for each 4 MB at N = 8; in place min(P, 4 MB) instead of P.
 *
 * ---- In place ----
 *
 * With `in_place` there is no copy: the others' pieces take the place of the shards that were sent, and one chunk of
 * 4 MiB is all that is added (nothing, where memory is shared). The price: a round that is abandoned or rejected may
 * leave the gradients in pieces. Then subspace_state has SUBSPACE_GRADIENTS_LOST: compute them anew before you submit
 * them again. Since rejecting would be the end of the gradients, SUBSPACE_GUARD_REJECT is refused with it, but where
 * memory is shared. A chunk does not go beyond a tensor, so it is for few large tensors; a flat buffer is one.
 *
 * ---- Instruction sets ----
 *
 * Kernels for SSE2, AVX2 and AVX-512 (x86), NEON (aarch64) and wasm simd128, chosen when the object is made by what the
 * machine has, with equal bits; no compiler flags are needed, and -march=native does no harm. `isa` forces one;
 * WEFT_NO_SIMD leaves all but plain C out. Every kernel stands in this file once: it includes itself for each set, by
 * the name subspace.h. If you rename it, define SUBSPACE_HEADER as its new name, with quotes, beside
 * SUBSPACE_IMPLEMENTATION.
 *
 * ---- With your trainer ----
 *
 * learning rate    as for the mean: by default the aggregate is scaled so that its component along the mean gradient is
 *                  the mean gradient (`scale`). Without that its norm is at most 1, whatever the loss.
 * momentum, Adam   take the aggregate as they would the mean. Weight decay goes into your optimiser, not in here.
 * accumulation     sum your micro-batches locally, submit once: common factors cancel but for the scale.
 * clipping         after the aggregate. Clipping each worker before changes who is in the consensus.
 * loss scaling     a common factor on all gradients comes out as that factor (not with SUBSPACE_SCALE_OFF); where it
 *                  changes from step to step, the average over steps remembers the old one for a while. An overflow
 *                  on one worker: `guard`.
 * unequal batches  subspace_set_batch(a, samples): a worker with twice the samples counts as two.
 * frozen, unused   submit zeros; every tensor is submitted every round by everybody.
 * layers           `group_of_tensor`: weights of their own for each group of tensors (each layer, say).
 *
 * ---- What is guaranteed when things fail ----
 *
 * Crash-stop faults. A lost worker shows as WEFT_ERR_PEER_LOST from the next verb that communicates; the host then
 * gives every survivor the same new view with a higher epoch, subspace_regroup, and polls: if any survivor had
 * committed the round, all commit it (WEFT_OK), else all abandon it, gradients untouched (WEFT_WANT_GRADIENT). The
 * average over order statistics begins anew when the number of workers changes or one is new. Slow is not dead:
 * timeout_ns only reports that nothing moves. A gradient that is not finite never enters an aggregate: its worker is
 * left out, and the weights formed among the others, in each group of tensors where it is not; or the round is rejected
 * by all (`guard`), gradients and state untouched. It is rejected in any case, with WEFT_ERR_NONFINITE, if nobody is
 * left in a group, or the aggregate overflows. Squared norms are sums in f64: a gradient with a norm beyond 1e154
 * counts as not finite, and one below 1e-162 as zero. Weights whose sum is zero or below (opposed or zero gradients)
 * fall back to those of the mean, counted in the stats.
 *
 * With shared memory (SUBSPACE_PLAN_SHARED) the other workers read, and in place also write, a worker's gradients, and
 * read its object. So after an error, too, tensors and memory stay until no other worker is in a round with this one:
 * until all have left, closed, or agreed on a view without it; and a worker that is declared lost must really have
 * stopped. subspace_leave sees to that by itself. Where threads come and go as they like, ask for
 * SUBSPACE_PLAN_EXCHANGE.
 *
 * ---- What is assumed of the host ----
 *
 * For each (peer, tag) the transport delivers exactly once, in order, and undamaged; a lost peer is an error or a call
 * of subspace_peer_lost, the same for all survivors sooner or later; a worker that is declared lost sends no more (or
 * as a newcomer). `now` does not go back. The memory given, tensor lists and transport stay where they are until
 * subspace_close. Float arithmetic is IEEE 754, rounding to nearest, without flushing (checked at init). All of it is
 * tested by weft_transport_selftest as far as a test can tell. Who is left after a loss is agreed on outside of this
 * header (by a launcher, a coordinator, or weft_members.h of the repository): subspace_regroup wants the same members
 * under the same epoch on all of them. It copies the view.
 *
 * ---- History ----
 *
 * 0.1.0 the first version. A minor version may change API, messages and blobs, a patch none of them; all workers of a
 * job run one version (CHANGELOG.md of the repository). */

/* These are defined only while this file includes itself: see its end. */
#if !defined WEFT_ELEMENT && !defined WEFT_FAMILY && !defined WEFT_DEVICE_PART && \
    !defined WEFT_DEVICE_WIDE

/* What this file is called, if you rename it: it includes itself by this name. */
#ifndef SUBSPACE_HEADER
#define SUBSPACE_HEADER "subspace.h"
#endif

#if defined WEFT_VERSION && WEFT_VERSION != 100
#error "two versions of weft in one unit"
#endif

#ifndef SUBSPACE_H
#define SUBSPACE_H

/* ---- src/weft/base.h: API -------------------------------------------------------------------- */
#ifndef WEFT_BASE_API
#define WEFT_BASE_API

#include <stddef.h>
#include <stdint.h>

/* 10,000 x major + 100 x minor + patch. All five headers of one release carry the same number. */
#define WEFT_VERSION 100

/* What X_init compares with the unit that implements it: the version, and what the two compilers must agree on. */
#ifdef WEFT_CUDA /* descriptors have one field more */
#define WEFT_ABI ((uint32_t)WEFT_VERSION * 16u + (uint32_t)sizeof(size_t) + 1u)
#else
#define WEFT_ABI ((uint32_t)WEFT_VERSION * 16u + (uint32_t)sizeof(size_t))
#endif

#if defined __GNUC__ || defined __clang__
#define WEFT_UNUSED __attribute__((unused))
#define WEFT_RESTRICT __restrict
#elif defined _MSC_VER
#define WEFT_UNUSED
#define WEFT_RESTRICT __restrict
#else
#define WEFT_UNUSED
#define WEFT_RESTRICT
#endif
/* Foundation functions have internal linkage, so that any number of headers and versions can live in one program. */
#define WEFT_INLINE static inline WEFT_UNUSED
#define WEFT_FN static WEFT_UNUSED

/* Descriptor fields where zero means "the default" but is also a legal setting: WEFT_ZERO asks for zero itself.
 * Other negative values of such a field are errors. */
#define WEFT_ZERO (-1)

/* A worker that is nobody: where a rank is expected and none applies. */
#define WEFT_NO_RANK UINT32_MAX

/* In what follows X_ stands for the prefix of the algorithm: X_memory is grawa_memory, and so on.
 *
 * What every verb returns. Zero: done. Positive: a wish. Negative: an error; X_detail names who, where, and both
 * values. The numbers are stable across versions. */
typedef enum weft_status {
    WEFT_OK = 0,
    WEFT_AGAIN = 1,         /* in progress: call X_poll later; the tensors stay lent to the library until WEFT_OK */
    WEFT_STALL = 2,         /* the library cannot take another step yet (HPSGD: h_max reached) */
    WEFT_WANT_GRADIENT = 3, /* the library wants a gradient before it goes on */

    WEFT_ERR_ARGUMENT = -1,     /* an argument or a field of a descriptor is not legal; detail.field names it */
    WEFT_ERR_ABI = -2,          /* struct size or header version of the caller differ from the implementation's */
    WEFT_ERR_MEMORY = -3,       /* the memory given is smaller than X_memory asked for */
    WEFT_ERR_OVERFLOW = -4,     /* a size does not fit size_t on this machine */
    WEFT_ERR_ORDER = -5,        /* this verb is not legal now; X_state tells which are */
    WEFT_ERR_REENTRY = -6,      /* a callback called back into the object that called it */
    WEFT_ERR_FLOAT_ENV = -7,    /* flush-to-zero, contraction or a rounding mode other than nearest is in force */
    WEFT_ERR_TRANSPORT = -8,    /* a transport callback failed for a reason of its own */
    WEFT_ERR_PEER_LOST = -9,    /* a worker of the view is gone; X_regroup is the way on */
    WEFT_ERR_TIMEOUT = -10,     /* no progress for timeout_ns; nothing is lost, polling may go on */
    WEFT_ERR_TRUNCATED = -11,   /* a message is longer than the receive posted for it */
    WEFT_ERR_PROTOCOL = -12,    /* a peer's message is malformed, or impossible at this point */
    WEFT_ERR_MISMATCH = -13,    /* a peer runs with other settings; detail.field, expected (here), got (there) */
    WEFT_ERR_CHECKSUM = -14,    /* a checksum does not fit the bytes */
    WEFT_ERR_VERSION = -15,     /* a message or blob of a version that this code does not read */
    WEFT_ERR_NONFINITE = -16,   /* NaN or infinity where the descriptor says that this rejects the round */
    WEFT_ERR_UNSUPPORTED = -17, /* legal, but not available in this configuration */
    WEFT_ERR_CAPACITY = -18     /* the buffer given is too small; detail.expected bytes are needed */
#ifdef WEFT_CUDA
    ,
    WEFT_ERR_DEVICE = -19 /* the CUDA runtime gave an error: detail.got; the object's data may be wrong from now on */
#endif
} weft_status;

/* The last error (or wish) of an object, as data. Ranks are WEFT_NO_RANK, strings NULL, where they do not apply. */
typedef struct weft_detail {
    weft_status status;
    uint32_t peer;     /* rank of the other worker */
    uint64_t round;    /* communication round */
    const char *phase; /* what was being done: static text */
    const char *field; /* the argument, descriptor field or message field at fault: static text */
    uint64_t expected; /* here (floats: their bits, widened to double) */
    uint64_t got;      /* there */
} weft_detail;

/* One named buffer of an object. */
typedef struct weft_memory_entry {
    const char *name; /* static text */
    size_t offset;    /* from the aligned start of the object's memory, or of its device memory */
    size_t bytes;
    int on_device; /* 1: of its device memory (WEFT_CUDA) */
} weft_memory_entry;

#define WEFT_MEMORY_ENTRIES 32

/* What X_memory reports besides the total: every buffer by name, and why a descriptor was refused. */
typedef struct weft_memory_report {
    size_t total_bytes; /* what X_init needs, alignment slack included; 0 if the descriptor is refused */
    size_t count;       /* entries used */
    weft_memory_entry entry[WEFT_MEMORY_ENTRIES];
    uint32_t requests_per_peer; /* most transport requests outstanding towards one peer at a time */
    weft_detail detail;         /* detail.status is WEFT_OK, or why there is no size */
    size_t device_bytes;        /* with a descriptor's `cuda` (WEFT_CUDA): device memory beside it */
} weft_memory_report;

/* English for a status; never NULL. With WEFT_NO_STRINGS: the empty string. */
WEFT_INLINE const char *weft_strerror(weft_status status) {
#ifdef WEFT_NO_STRINGS
    (void)status;
    return "";
#else
    switch (status) {
    case WEFT_OK: return "ok";
    case WEFT_AGAIN: return "in progress, poll again";
    case WEFT_STALL: return "stalled, the network is behind";
    case WEFT_WANT_GRADIENT: return "a gradient is wanted";
    case WEFT_ERR_ARGUMENT: return "illegal argument or descriptor field";
    case WEFT_ERR_ABI: return "header and implementation differ in version or layout";
    case WEFT_ERR_MEMORY: return "the memory given is too small";
    case WEFT_ERR_OVERFLOW: return "a size does not fit this machine";
    case WEFT_ERR_ORDER: return "this call is not legal now";
    case WEFT_ERR_REENTRY: return "called from inside its own callback";
    case WEFT_ERR_FLOAT_ENV: return "the floating-point environment breaks the arithmetic contract";
    case WEFT_ERR_TRANSPORT: return "the transport failed";
    case WEFT_ERR_PEER_LOST: return "a worker of the view is lost";
    case WEFT_ERR_TIMEOUT: return "no progress within the time-out";
    case WEFT_ERR_TRUNCATED: return "a message is longer than its receive";
    case WEFT_ERR_PROTOCOL: return "a message is malformed or out of place";
    case WEFT_ERR_MISMATCH: return "workers run with different settings";
    case WEFT_ERR_CHECKSUM: return "checksum mismatch";
    case WEFT_ERR_VERSION: return "unknown version";
    case WEFT_ERR_NONFINITE: return "a value is not finite";
    case WEFT_ERR_UNSUPPORTED: return "not available in this configuration";
    case WEFT_ERR_CAPACITY: return "the buffer given is too small";
#ifdef WEFT_CUDA
    case WEFT_ERR_DEVICE: return "the GPU or its runtime failed";
#endif
    }
    return "unknown status";
#endif
}

#endif /* WEFT_BASE_API */

/* ---- src/weft/tensor.h: API ------------------------------------------------------------------ */
#ifndef WEFT_TENSOR_API
#define WEFT_TENSOR_API

/* Element types. The 16-bit ones are storage and wire formats: computed in f32, rounded once (nearest even). */
typedef enum weft_dtype {
    WEFT_F32 = 0,
    WEFT_F64 = 1,
    WEFT_BF16 = 2, /* the upper half of an f32 */
    WEFT_F16 = 3   /* IEEE 754 binary16 */
} weft_dtype;

/* One tensor of the host: `count` elements at `data`, contiguous, aligned for its element type; it stays the host's.
 * In a view of gradients, data == NULL says "no gradient for this tensor in this step" (frozen, unused): `count` is
 * still that of the parameter. */
typedef struct weft_tensor {
    void *data;
    size_t count;
    weft_dtype dtype;
} weft_tensor;

/* A list of tensors. The list and the tensors stay the host's; both must outlive the object that was given them. */
typedef struct weft_tensors {
    const weft_tensor *tensor;
    size_t count;
} weft_tensors;

/* Bytes of one element, 0 for an unknown type. */
WEFT_INLINE size_t weft_dtype_bytes(weft_dtype dtype) {
    switch (dtype) {
    case WEFT_F32: return 4;
    case WEFT_F64: return 8;
    case WEFT_BF16:
    case WEFT_F16: return 2;
    }
    return 0;
}

#endif /* WEFT_TENSOR_API */

/* ---- src/weft/pool.h: API -------------------------------------------------------------------- */
#ifndef WEFT_POOL_API
#define WEFT_POOL_API

typedef void (*weft_pool_body)(void *arg, size_t index);
typedef void (*weft_pool_task)(void *arg);

/* The results of the library are bit-identical with and without a pool, for any number of threads. Those run in the
 * default floating-point environment: init can only probe the thread that it is called on. */
typedef struct weft_pool {
    void *ctx;
    /* Calls body(arg, i) once for every i in [0, n), in any order, on any threads, and returns when all are done.
     * The bodies are independent and never call back into the library or the pool. NULL: serial. */
    void (*parallel_for)(void *ctx, size_t n, weft_pool_body body, void *arg);
    /* Starts task(arg) on another thread and returns at once; an error says that it was not started. NULL: not
     * available. Everything written before submit is visible to the task. */
    weft_status (*submit)(void *ctx, weft_pool_task task, void *arg);
} weft_pool;

#endif /* WEFT_POOL_API */

/* ---- src/weft/kernels.h: API ----------------------------------------------------------------- */
#ifndef WEFT_KERNELS_API
#define WEFT_KERNELS_API

/* ---- The arithmetic contract ----
 *
 * Results are bit-identical for any instruction set, thread count, chunk size and arrival order:
 * - Element-wise kernels: f32 tensors in f32, f64 tensors in f64, evaluated exactly as the formula beside each
 *   kernel is written, left to right, no contraction into FMA, round to nearest even. Scalars are rounded once to
 *   the element type.
 * - 16-bit types are storage: widened to f32 (exact), computed there, rounded once.
 * - Reductions: products and sums in f64 (f32 products are exact in f64). WEFT_BLOCK elements make a block, blocks
 *   restart at each tensor; inside a block element i goes to lane i % 16, each lane adds in index order from +0.0,
 *   tails are padded with zeros; the 16 lanes are combined in a pairwise tree (l[i] + l[i + 8], then + 4, + 2, + 1);
 *   block sums are added in index order from +0.0, whoever computed them.
 * - NaN payloads are excepted. */
#define WEFT_BLOCK ((size_t)4096)

/* Which instruction set to use. WEFT_ISA_AUTO takes the best that compiler and machine have, found at run time: no
 * compiler flags are needed. One that is not there is refused with WEFT_ERR_UNSUPPORTED. The results are the same. */
typedef enum weft_isa {
    WEFT_ISA_AUTO = 0,
    WEFT_ISA_SERIAL = 1, /* plain C; all there is with WEFT_NO_SIMD */
    WEFT_ISA_SSE2 = 2,   /* x86-64 */
    WEFT_ISA_AVX2 = 3,   /* with FMA */
    WEFT_ISA_AVX512 = 4, /* F, DQ and VL */
    WEFT_ISA_NEON = 5,   /* aarch64, little-endian */
    WEFT_ISA_WASM = 6    /* simd128, where the module is compiled with it */
} weft_isa;

#define WEFT_ISA_COUNT 7

/* "serial", "avx2", ...; "auto" for WEFT_ISA_AUTO, NULL for what is none. */
WEFT_INLINE const char *weft_isa_name(weft_isa isa) {
    switch (isa) {
    case WEFT_ISA_AUTO: return "auto";
    case WEFT_ISA_SERIAL: return "serial";
    case WEFT_ISA_SSE2: return "sse2";
    case WEFT_ISA_AVX2: return "avx2";
    case WEFT_ISA_AVX512: return "avx512";
    case WEFT_ISA_NEON: return "neon";
    case WEFT_ISA_WASM: return "wasm";
    }
    return NULL;
}

#endif /* WEFT_KERNELS_API */

/* ---- src/weft/transport.h: API --------------------------------------------------------------- */
#ifndef WEFT_TRANSPORT_API
#define WEFT_TRANSPORT_API

/* ---- The transport contract, on one page ----
 *
 * A transport carries messages between `size` workers with ranks 0 .. size-1. It is point to point, non-blocking,
 * tagged, and delivers into posted buffers, so it maps one to one onto MPI, UCX, libfabric, NCCL, sockets, or shared
 * memory.
 *
 * Order. For each (sender, receiver, tag): reliable, exactly once, in order; the n-th message matches the n-th receive
 *   posted for that peer and tag. Nothing is promised between different tags or peers.
 * Sizes. A receive may be longer than its message (request.bytes then tells the length). A receive shorter than its
 *   message completes with WEFT_ERR_TRUNCATED, request.bytes being the length of the message; what then stands in the
 *   buffer is undefined. Zero bytes are a message. No message exceeds max_message_bytes, if that is not 0.
 * Progress. send and recv return at once: WEFT_OK when the request is under way (or done), or an error. test returns
 *   WEFT_OK once when the request is done, WEFT_AGAIN before, or an error; after WEFT_OK or an error the request is
 *   over. A send whose receive is not posted yet may stay pending, but blocks no other message (of another tag or
 *   peer, or a receive).
 *   Bytes may only move inside callbacks; then every one of them moves all links, also those whose sends are over.
 * Ownership. From send or recv until test says that it is over, or cancel returns, request and buffer belong to the
 *   transport: the request does not move, the buffer is neither written (send, recv) nor read (recv) by the library.
 *   Nobody sends to itself. request.bytes is looked at for receives only.
 * Cancel. Returns at once, needs nobody's cooperation; afterwards the buffer is not touched again. A cancelled send may
 *   have been delivered, wholly or not at all. A cancelled receive takes no message with it, unless it was matched
 *   already.
 * End. X_leave is done when test has said of the last messages that they are over, which may be before they are on the
 *   line: a transport that copies must be flushed before the process ends.
 * Threads. Callbacks are called on the thread that called the verb, never on another (hpsgd.h with a pool that has
 *   `submit`: also on one of its threads, one at a time). Objects on several threads that share one transport need a
 *   transport that says so itself. A callback must not call verbs of the object that
 *   called it (they answer WEFT_ERR_REENTRY).
 * Loss. A peer that is gone is WEFT_ERR_PEER_LOST from send, recv or test of any request with that peer, or a call of
 *   X_peer_lost by the host. A send may still be taken, but receives tell. What a peer sent before it went is still
 *   received: a receive says so only when nothing is left. Any other negative status is a failure of the transport:
 *   WEFT_ERR_TRANSPORT, the status in detail.got.
 * Tags. Below 32,768 (what MPI guarantees). An object uses the WEFT_TAGS_PER_CHANNEL tags of its own `channel`, so that
 *   up to WEFT_CHANNELS objects share one transport.
 * Outstanding. At most `requests_per_peer` (see X_memory) per object and peer at a time.
 * Time. now is monotonic, in nanoseconds; only differences matter. It is called only where a deadline is asked for.
 * Sums. all_reduce is optional, and the host's own: out = the sum of weight * in over all ranks, each with a weight of
 *   its own. All call it in the same order, one at a time, with the same count and dtype; so one object a transport may
 *   use it. out may be in; otherwise in is not written. A weight that is 0 once it is rounded to the type in which sums
 *   are formed (f32 for 16-bit types) keeps out of the sum whatever stands in that rank's `in`. The order of summation
 *   is the host's affair; all ranks get the same.
 *   It returns at once; test ends it. request.bytes, which was UINT64_MAX, is then the number of elements of the whole
 *   result that are not finite; or it still is UINT64_MAX, and the library counts them. Until then, or until cancel,
 *   request, in and out belong to the transport. A sum that is cancelled by a rank, or loses one, comes to nothing for
 *   the others, too: they get an error, or wait until they cancel it. No rank begins the next one before all have.
 * Shared memory. `shared` = 1 says that all ranks live in one address space: an address of one is good at all, and what
 *   a rank wrote before it sent is there for whoever has received. An algorithm may then read its peers' memory, and
 *   where its header says so write it, instead of having it sent. Tensors and the memory of an object then stay where
 *   they are until no other worker is in a round with it; those of a rank that was lost, until the others are in a
 *   view without it.
 *
 * weft_transport_selftest() checks an implementation against this page. */

#define WEFT_CHANNELS 16u
#define WEFT_TAGS_PER_CHANNEL 2048u

/* One message under way. The library allocates it zeroed; the words are the transport's to use. */
typedef struct weft_request {
    uint64_t bytes;    /* set by the transport when done: the length of the message */
    uintptr_t word[4]; /* the transport's */
} weft_request;

typedef weft_status (*weft_send_fn)(void *ctx, uint32_t peer, uint32_t tag, const void *data, size_t bytes,
                                    weft_request *request);
typedef weft_status (*weft_recv_fn)(void *ctx, uint32_t peer, uint32_t tag, void *data, size_t capacity,
                                    weft_request *request);
typedef weft_status (*weft_test_fn)(void *ctx, weft_request *request);
typedef void (*weft_cancel_fn)(void *ctx, weft_request *request);
typedef uint64_t (*weft_now_fn)(void *ctx);
typedef weft_status (*weft_all_reduce_fn)(void *ctx, double weight, const void *in, void *out, size_t count,
                                          weft_dtype dtype, weft_request *request);

typedef struct weft_transport {
    size_t struct_size;         /* sizeof(weft_transport) where it was filled in */
    void *ctx;                  /* handed to every callback */
    uint32_t rank;              /* of this worker */
    uint32_t size;              /* number of workers, >= 1 */
    uint64_t max_message_bytes; /* 0: no limit; otherwise at least WEFT_SMALLEST_MESSAGE */

    weft_send_fn send;
    weft_recv_fn recv;
    weft_test_fn test;
    weft_cancel_fn cancel;
    weft_now_fn now; /* may be NULL if no deadline is asked for */

    /* Optional: sleep until something may have happened for this worker, or until `until_ns` on the clock of now
     * (UINT64_MAX: no limit). Returning early, or at once, is always legal. Used by the blocking verbs only. What other
     * callbacks have taken in since the last wait is such a happening, too: who reads bytes for all requests in each
     * of them keeps a mark, or it sleeps on what is there. */
    void (*wait)(void *ctx, uint64_t until_ns);

    weft_all_reduce_fn all_reduce; /* optional: see "Sums" above; used where a descriptor asks for it */
    uint32_t shared;               /* 1: see "Shared memory" above; 0 otherwise */
} weft_transport;

/* The smallest largest message that the library can work over: its control message. */
#define WEFT_SMALLEST_MESSAGE 256u

WEFT_INLINE weft_transport weft_transport_make(void *ctx, uint32_t rank, uint32_t size, weft_send_fn send,
                                               weft_recv_fn recv, weft_test_fn test, weft_cancel_fn cancel,
                                               weft_now_fn now) {
    weft_transport t;
    t.struct_size = sizeof t;
    t.ctx = ctx;
    t.rank = rank;
    t.size = size;
    t.max_message_bytes = 0;
    t.send = send;
    t.recv = recv;
    t.test = test;
    t.cancel = cancel;
    t.now = now;
    t.wait = NULL;
    t.all_reduce = NULL;
    t.shared = 0;
    return t;
}

#endif /* WEFT_TRANSPORT_API */

/* ---- src/weft/selftest.h: API ---------------------------------------------------------------- */
#ifndef WEFT_SELFTEST_API
#define WEFT_SELFTEST_API

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

#endif /* WEFT_SELFTEST_API */

/* ---- src/weft/wire.h: API -------------------------------------------------------------------- */
#ifndef WEFT_WIRE_API
#define WEFT_WIRE_API

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

#endif /* WEFT_WIRE_API */

/* ---- src/weft/device.h: API ------------------------------------------------------------------ */
#ifndef WEFT_DEVICE_API
#define WEFT_DEVICE_API

#ifdef WEFT_CUDA
/* The host's GPU, for a descriptor's field `cuda`. All data is then device memory of the GPU that is current whenever a
 * verb is called: the tensors of the descriptor, gradients given to verbs, and what the object holds between rounds,
 * which is in `memory`. Pointers handed to the transport are device memory, too, so it must take them (CUDA-aware MPI,
 * weft_nccl.h's collectives, or weft_staged.h around any other transport); letters are host memory as ever.
 *
 * Work is enqueued on `stream`, behind what the host has enqueued there. A verb waits for the stream, and so for the
 * host's work on it, where it needs a number (norms, hashes, whether a sum is finite) or the transport is to read or
 * write data; other work it only enqueues. What is written into the host's tensors is there for whatever is enqueued on
 * `stream` after the verb. The bits are those of workers without a GPU, with which a job may be mixed (subspace.h: with
 * SUBSPACE_PLAN_EXCHANGE on all). With host_collectives the transport's all_reduce must take device memory, too.
 *
 * WEFT_ERR_DEVICE is for good: nothing more is sent, parameters may be wrong. Close the object, and let the others know
 * that this worker is lost. WEFT_CUDA must be defined wherever the header is included, not only where it is
 * implemented. */
typedef struct weft_cuda {
    size_t struct_size; /* sizeof(weft_cuda) */
    void *stream;       /* a cudaStream_t; NULL: the default stream */
    void *memory;       /* device memory, at least X_memory's report.device_bytes; stays lent until X_close */
    size_t bytes;       /* of it; X_memory looks at neither */
} weft_cuda;
#endif

#endif /* WEFT_DEVICE_API */

/* ---- src/weft/trace.h: API ------------------------------------------------------------------- */
#ifndef WEFT_TRACE_API
#define WEFT_TRACE_API

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

#endif /* WEFT_TRACE_API */

/* ---- src/weft/group.h: API ------------------------------------------------------------------- */
#ifndef WEFT_GROUP_API
#define WEFT_GROUP_API

/* Who takes part. Given by the host: the same on all members, with a higher epoch than any view before. `members`
 * are the ranks in ascending order; this worker is one of them. Messages of other epochs are dropped and counted. */
typedef struct weft_view {
    size_t struct_size; /* sizeof(weft_view) */
    uint32_t epoch;
    uint32_t count;
    const uint32_t *members;
} weft_view;

#endif /* WEFT_GROUP_API */

/* ---- src/weft/collective.h: API -------------------------------------------------------------- */
#ifndef WEFT_COLLECTIVE_API
#define WEFT_COLLECTIVE_API

/* How a vector is summed over the workers. DIRECT and GATHER add in ascending rank for every element: the same bits
 * on every transport, for every chunk size and arrival order. RING and DOUBLING have an order of their own, equal on
 * all workers. */
typedef enum weft_algorithm {
    WEFT_ALGORITHM_AUTO = 0, /* GATHER up to WEFT_GATHER_BYTES, DIRECT above */
    WEFT_ALGORITHM_DIRECT =
        1, /* each worker owns a shard, adds its pieces in rank order, and hands it to all: 2 steps; a large shard in
              chunks, so that one is added up while others are under way */
    WEFT_ALGORITHM_GATHER = 2, /* everyone sends everything to all and adds it up: 1 step, for small vectors */
    WEFT_ALGORITHM_RING = 3,   /* 2 (n - 1) steps between neighbours; shard j is added in the order j+1, j+2, ..., j */
    WEFT_ALGORITHM_DOUBLING =
        4 /* log2 n steps with partners at distance 1, 2, 4, ...; ranks beyond a power of two fold in first */
} weft_algorithm;

#define WEFT_GATHER_BYTES ((size_t)8192)
#define WEFT_CHUNK_BYTES ((size_t)1 << 20) /* of a shard; more if there would be more than WEFT_CHUNKS of them */
#define WEFT_CHUNKS 1024u

/* A collective for the host's own use: plain sums of gradients, say. Its functions have internal linkage: they are
 * there in the unit that defines an X_IMPLEMENTATION. In place over `tensors`, committed wholly or not at all. */
typedef struct weft_collective_desc {
    size_t struct_size;
    weft_tensors tensors; /* the host's; read and, on commit, written */
    const weft_transport *transport;
    const weft_pool *pool;
    const weft_view *view; /* NULL: all ranks, epoch 0 */
    uint32_t channel;
    weft_isa isa;
    weft_algorithm algorithm;
    int host_collectives; /* 1: the transport's own all_reduce, while all its ranks take part */
    uint64_t timeout_ns;
    weft_trace_fn trace;
    void *trace_ctx;
#ifdef WEFT_CUDA
    const weft_cuda *cuda; /* NULL: tensors are host memory */
#endif
} weft_collective_desc;

typedef struct weft_collective weft_collective;

#endif /* WEFT_COLLECTIVE_API */

/* ---- src/weft/state.h: API ------------------------------------------------------------------- */
#ifndef WEFT_STATE_API
#define WEFT_STATE_API

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

#endif /* WEFT_STATE_API */

/* ---- src/subspace.h: API --------------------------------------------------------------------- */

#ifndef SUBSPACE_API
#ifdef SUBSPACE_STATIC
#define SUBSPACE_API static WEFT_UNUSED
#elif defined __cplusplus
#define SUBSPACE_API extern "C"
#else
#define SUBSPACE_API extern
#endif
#endif

typedef struct subspace subspace;

/* How the gradients are put together. p_i: worker i's share of the samples, 1 / N if batches are equal;
 * mean = sum_i p_i g_i; eps: `epsilon`. */
typedef enum subspace_rule {
    SUBSPACE_NORMALISED = 0, /* AdaCons: psi = sum_i c_i g_i, c_i = w_i / (|g_i| + eps), as above */
    SUBSPACE_BASIC = 1,      /* c_i = N p_i <g_i, mean>: one gradient step of the coordinate problem, not normalised */
    SUBSPACE_MEAN = 2        /* c_i = p_i: the plain mean, at the price of the plain mean */
} subspace_rule;

/* Which worker is given which slot of the averaged, sorted alphas. */
typedef enum subspace_assignment {
    SUBSPACE_INVERSE = 0, /* the k-th smallest alpha's worker gets slot k: what the algorithm says */
    /* as the published code runs it, which sorts twice instead of undoing the sort: from three workers on a worker
     * that is opposed to all others may get the best one's weight. To reproduce published results. */
    SUBSPACE_FORWARD = 1
} subspace_assignment;

/* The length of the aggregate. */
typedef enum subspace_scale {
    SUBSPACE_SCALE_DEFAULT = 0, /* PROJECTION, but OFF with SUBSPACE_FORWARD and for SUBSPACE_MEAN */
    SUBSPACE_SCALE_PROJECTION =
        1,                        /* <psi, mean> = |mean|^2; where <psi, mean> is not positive: as MEAN_NORM, counted */
    SUBSPACE_SCALE_MEAN_NORM = 2, /* times sum_i p_i |g_i| */
    SUBSPACE_SCALE_OFF = 3        /* as published: |psi| <= 1 for weights that are not negative */
} subspace_scale;

/* Weights below zero: workers opposed to the consensus. */
typedef enum subspace_negative {
    SUBSPACE_NEGATIVE_KEEP = 0,  /* as published */
    SUBSPACE_NEGATIVE_SHIFT = 1, /* the smallest, if below zero, is taken off all */
    SUBSPACE_NEGATIVE_CLAMP = 2  /* become zero */
} subspace_negative;

/* What a gradient that is not finite does to the round. */
typedef enum subspace_guard {
    /* its worker is left out of the groups where it is; their average over steps sits this round out */
    SUBSPACE_GUARD_EXCLUDE = 0,
    /* WEFT_ERR_NONFINITE on all workers (those whom a regroup finds short of that are told WEFT_WANT_GRADIENT);
     * gradients and state untouched */
    SUBSPACE_GUARD_REJECT = 1
} subspace_guard;

/* How a round gets at the other workers' gradients. The bits are the same. Who shares memory keeps it in place for the
 * others: see the end of the manual above. */
typedef enum subspace_plan {
    SUBSPACE_PLAN_DEFAULT = 0,  /* SHARED where transport->shared says so, else EXCHANGE */
    SUBSPACE_PLAN_EXCHANGE = 1, /* shards of the gradients and of the aggregate are sent */
    SUBSPACE_PLAN_SHARED = 2    /* they are read where they are, in the other workers' memory: only numbers are sent */
} subspace_plan;

/* Everything subspace_init wants to know. Fill struct_size, gradients and transport; zero is the default of every other
 * field. The descriptor itself, `view` and `group_of_tensor` are copied; the tensor list, transport and pool must
 * outlive the object. Fields marked (F) are part of the fingerprint: the same on all workers. */
typedef struct subspace_desc {
    size_t struct_size;              /* sizeof(subspace_desc) */
    weft_tensors gradients;          /* (F: shapes, types) gradients in, aggregate out, in place */
    const weft_transport *transport; /* the host's network; NULL for subspace_combine only */
    const weft_pool *pool;           /* the host's threads; NULL: serial */
    const weft_view *view;           /* first members; NULL: all ranks, epoch 0 */
    uint32_t channel;                /* the same on all workers; objects sharing a transport differ */
    uint32_t here;      /* gradients that subspace_combine is given at most: N for all in one address space; 0: none */
    weft_isa isa;       /* force an instruction set */
    subspace_rule rule; /* (F) */
    subspace_assignment assignment;  /* (F) */
    subspace_scale scale;            /* (F) */
    subspace_negative negative;      /* (F) */
    subspace_guard guard;            /* (F) */
    subspace_plan plan;              /* (F) */
    int in_place;                    /* (F) 1: without a copy of the gradients; see "In place" above */
    uint32_t groups;                 /* (F) number of groups; 0 with group_of_tensor NULL */
    const uint32_t *group_of_tensor; /* (F) group of each tensor, 0 .. groups-1; NULL: the whole model is one group */
    double momentum;                 /* (F) beta in [0, 1): of the average of the sorted alphas over steps; default 0 */
    double epsilon;                  /* (F) added to each norm; default 1e-8; WEFT_ZERO: none */
    uint64_t timeout_ns; /* no progress for so long in a round: WEFT_ERR_TIMEOUT, polling may go on; 0: never */
    weft_trace_fn trace; /* may be NULL */
    void *trace_ctx;
#ifdef WEFT_CUDA
    const weft_cuda *cuda; /* NULL: gradients are host memory; else device memory, over the wire (PLAN_EXCHANGE) */
#endif
} subspace_desc;

/* Counters since subspace_init (or as loaded). */
typedef struct subspace_stats_t {
    uint64_t rounds;              /* committed here */
    uint64_t rounds_abandoned;    /* by a regroup or the guard; gradients untouched */
    uint64_t members;             /* workers in the view now */
    uint64_t participants;        /* whose gradients entered the last aggregate whole */
    uint64_t nonfinite_gradients; /* workers left out of a round or a group of it, or why it was rejected */
    /* groups and rounds with the mean's weights, since their sum was not above 1e-6 of their size (with
     * SUBSPACE_FORWARD: was zero) */
    uint64_t zero_sums;
    uint64_t scale_fallbacks; /* groups and rounds where the projection was not positive */
    uint64_t restarts;        /* of the average over steps */
    weft_traffic traffic;     /* bytes and messages of this worker */
} subspace_stats_t;

/* One worker's numbers in one group of the last round. The mean needs no norms: they, dot and alpha are 0 for it. */
typedef struct subspace_worker_t {
    double norm;        /* |g_i| */
    double dot;         /* <g_i, sum_j n_j g_j>, n_j: samples as set by subspace_set_batch, else 1 */
    double alpha;       /* dot / (norm + eps) / sum_j n_j */
    double weight;      /* w_i: they sum to 1; SUBSPACE_BASIC: as coefficient */
    double coefficient; /* c_i, before `scale` */
} subspace_worker_t;

/* Bits of subspace_state: which verbs are legal now. close, stats, detail and the like always are. */
enum {
    SUBSPACE_MAY_SUBMIT = 1,     /* subspace_submit, subspace_aggregate */
    SUBSPACE_MAY_POLL = 2,       /* something is in progress (poll and wait are legal at any time) */
    SUBSPACE_MAY_SAVE = 4,       /* between rounds: save, leave, combine, setters */
    SUBSPACE_MAY_LOAD = 8,       /* after init, before anything else */
    SUBSPACE_MAY_REGROUP = 16,   /* subspace_regroup */
    SUBSPACE_GRADIENTS_LOST = 32 /* no verb: in_place, and a round came to nothing. Compute all gradients anew */
};

/* Bytes that subspace_init needs for this descriptor; 0 if the descriptor is refused (report->detail says why).
 * `report`, if not NULL, is overwritten with every buffer by name. */
#define subspace_memory(desc, report) subspace_memory_abi((desc), (report), sizeof(subspace_desc), WEFT_ABI)
SUBSPACE_API size_t subspace_memory_abi(const subspace_desc *desc, weft_memory_report *report, size_t desc_size,
                                        uint32_t abi);

/* Makes *out inside `memory` (the caller's, any alignment, at least subspace_memory bytes; it must stay until
 * subspace_close). Sends nothing. Errors: ARGUMENT, ABI, MEMORY, OVERFLOW, UNSUPPORTED, FLOAT_ENV; *out is then NULL
 * and *detail, if not NULL, says why. */
#define subspace_init(out, desc, memory, bytes)                                                                        \
    subspace_init_abi((out), (desc), (memory), (bytes), NULL, sizeof(subspace_desc), WEFT_ABI)
#define subspace_init_detail(out, desc, memory, bytes, detail)                                                         \
    subspace_init_abi((out), (desc), (memory), (bytes), (detail), sizeof(subspace_desc), WEFT_ABI)
SUBSPACE_API weft_status subspace_init_abi(subspace **out, const subspace_desc *desc, void *memory, size_t bytes,
                                           weft_detail *detail, size_t desc_size, uint32_t abi);

/* The gradients of tensors first .. first + count - 1 are ready: their exchange may begin. Every worker submits the
 * same ranges in the same order (else WEFT_ERR_MISMATCH names both), every tensor once a round. The sums depend on how
 * the tensors are split into submissions, in the last place. Never blocks; WEFT_OK after the last tensor: the gradients
 * hold the aggregate already. */
SUBSPACE_API weft_status subspace_submit(subspace *a, size_t first, size_t count);

/* Submits what is not yet submitted, and waits until the gradients hold the aggregate. Bounded by timeout_ns. Not an
 * aggregate either is WEFT_WANT_GRADIENT: a regroup was still under way, and the round has been abandoned. */
SUBSPACE_API weft_status subspace_aggregate(subspace *a);

/* Goes on with whatever is in progress. Never blocks. WEFT_OK: nothing is (any more). */
SUBSPACE_API weft_status subspace_poll(subspace *a);

/* Polls until something other than WEFT_AGAIN comes, sleeping in the transport's `wait` where there is one. Bounded by
 * timeout_ns. */
SUBSPACE_API weft_status subspace_wait(subspace *a);

/* All gradients in one address space: aggregates the n <= desc.here gradients (each of the shapes and types of
 * desc.gradients) into `out` (which may be one of them), with the same bits as n workers that submit all tensors at
 * once. Between rounds; reads everything twice, 2 n + 1 times the gradients' bytes, and groups that fit the cache once.
 * Counts as a round. samples: one a gradient, or NULL: equal. Errors: ARGUMENT; NONFINITE, after which `out` may hold
 * anything, unless it was a gradient that the guard rejected. */
SUBSPACE_API weft_status subspace_combine(subspace *a, const weft_tensors *gradients, uint32_t n, const double *samples,
                                          const weft_tensors *out);

/* How many samples this worker's gradient stands for, from the next round on; only ratios between workers matter.
 * 1e-100 to 1e100; 1 at first. The gradients are means over these samples. */
SUBSPACE_API weft_status subspace_set_batch(subspace *a, double samples);

/* Says good-bye (out of data, say): the others go on without this worker. Poll until WEFT_OK, then close. Views given
 * from then on leave out whoever has left; one that was on its way to it (regroup is then ORDER) wants another one
 * after it. A loss may show here, too, and wants a regroup first; not that of a worker that has been told good-bye. */
SUBSPACE_API weft_status subspace_leave(subspace *a);

/* The host has learnt that `rank` is gone, or that its link is usable again. Legal at any time; communicates nothing.
 * After the loss of a member verbs that communicate return WEFT_ERR_PEER_LOST until subspace_regroup. */
SUBSPACE_API weft_status subspace_peer_lost(subspace *a, uint32_t rank);
SUBSPACE_API weft_status subspace_peer_up(subspace *a, uint32_t rank);

/* The new view (with a transport), the same on all its members, with a higher epoch than any before. Settles what
 * becomes of a round in progress; poll until WEFT_OK (committed, or there was none) or WEFT_WANT_GRADIENT (abandoned:
 * submit again). */
SUBSPACE_API weft_status subspace_regroup(subspace *a, const weft_view *view);

/* Everything of this object that shapes the trajectory, as one blob (versioned, checksummed, endian-neutral). *bytes is
 * set to the length; with buf NULL only that. Load: into a fresh object of the same descriptor, rank and number of
 * workers; all workers load the blobs of the same moment, which nobody but you can check.
 * Model and optimiser are not in it; what subspace_set_batch said last is. Hostile blobs give an error, the object is
 * then as before. */
SUBSPACE_API weft_status subspace_save(subspace *a, void *buf, size_t capacity, size_t *bytes);
SUBSPACE_API weft_status subspace_load(subspace *a, const void *buf, size_t bytes);
/* The same through callbacks (state.h), for blobs that no memory has room for. `write` NULL: only the length. */
SUBSPACE_API weft_status subspace_save_to(subspace *a, weft_write_fn write, void *ctx, size_t *bytes);
SUBSPACE_API weft_status subspace_load_from(subspace *a, weft_read_fn read, void *ctx, size_t bytes);

/* Reading. The descriptor comes back with defaults filled in; it is for reading, not for another init. */
SUBSPACE_API void subspace_stats(const subspace *a, subspace_stats_t *out);
SUBSPACE_API void subspace_effective(const subspace *a, subspace_desc *out);
SUBSPACE_API const weft_detail *subspace_detail(const subspace *a); /* never NULL, but for a == NULL */
SUBSPACE_API uint32_t subspace_state(const subspace *a);
SUBSPACE_API uint32_t subspace_members(const subspace *a, uint32_t *ranks, uint32_t capacity);
SUBSPACE_API uint32_t subspace_groups(const subspace *a);
/* Of the last round committed, until the next begins; `rank`: a rank, or an index into the gradients of
 * subspace_combine. ARGUMENT if it had no part, or the round came to nothing. */
SUBSPACE_API weft_status subspace_worker(const subspace *a, uint32_t rank, uint32_t group, subspace_worker_t *out);
/* The factor that `scale` made of the last round's group; NaN before. */
SUBSPACE_API double subspace_scale_of(const subspace *a, uint32_t group);
/* The average over steps of the sorted alphas, ascending, as far as `capacity` goes; returns how many there are. */
SUBSPACE_API uint32_t subspace_slots(const subspace *a, uint32_t group, double *slots, uint32_t capacity);

/* Cancels every message under way. Afterwards the memory is the host's again (with shared memory: as soon as no other
 * worker is in a round with this one) and no verb is legal. Needs nobody's cooperation. Use the channel again only
 * after a barrier of your own behind every worker's close, and with a first view of a higher epoch; or take another
 * channel. */
SUBSPACE_API void subspace_close(subspace *a);

#endif /* SUBSPACE_H */

#if defined SUBSPACE_IMPLEMENTATION && !defined SUBSPACE_IMPLEMENTED
#define SUBSPACE_IMPLEMENTED

#include <math.h>
#include <string.h>

/* Which instruction sets this compiler can make kernels for, and their intrinsics: included before the pragmas of the
 * implementation, which must not reach into the compiler's own headers. */
#if !defined WEFT_NO_SIMD && !defined WEFT_SETS_KNOWN
#define WEFT_SETS_KNOWN
#if (defined __GNUC__ || defined __clang__) && (defined __x86_64__ || (defined __i386__ && defined __SSE2_MATH__))
#include <cpuid.h>
#include <immintrin.h>
#define WEFT_HAVE_X86
#elif defined __aarch64__ && defined __ARM_NEON && !defined __ARM_BIG_ENDIAN
#include <arm_neon.h>
#define WEFT_HAVE_NEON
#elif defined __wasm_simd128__
#include <wasm_simd128.h>
#define WEFT_HAVE_WASM
#endif
#endif

/* WEFT_CUDA adds kernels for the host's GPU. Tests name a runtime of their own. */
#if defined WEFT_CUDA && !defined WEFT_CUDA_KNOWN
#define WEFT_CUDA_KNOWN
#ifndef WEFT_CUDA_RUNTIME
#ifndef __CUDACC__
#error "WEFT_CUDA: the implementation must be in a .cu file, for nvcc"
#endif
#define WEFT_CUDA_RUNTIME <cuda_runtime.h>
#endif
#include WEFT_CUDA_RUNTIME
#endif

/* Contraction of a * b + c into one rounding would make results depend on the compiler and its flags. gcc ignores the
 * standard's pragma and fuses in its gnu modes, hence the option; clang and MSVC have pragmas of their own. */
#if defined __clang__
#pragma STDC FP_CONTRACT OFF
#pragma clang fp contract(off)
#elif defined __GNUC__
#ifdef __NVCC__ /* which hands the option on, but warns; nor does it see that (void) is meant */
#pragma nv_diag_suppress 1675, 550
#endif
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off")
#elif defined _MSC_VER
#pragma float_control(precise, on, push)
#pragma fp_contract(off)
#endif

/* ---- src/weft/base.h: implementation --------------------------------------------------------- */
#ifndef WEFT_BASE_IMPLEMENTATION
#define WEFT_BASE_IMPLEMENTATION

/* The arithmetic contract (kernels.h) does not survive these; a silent difference between workers would be worse
 * than a build that stops. */
#if defined __FAST_MATH__ || defined __ASSOCIATIVE_MATH__
#error "weft: -ffast-math breaks the arithmetic contract; compile the implementation without it"
#endif
#if defined __FLT_EVAL_METHOD__
#if __FLT_EVAL_METHOD__ != 0 && __FLT_EVAL_METHOD__ != 16
#error "weft: float is evaluated in a wider type here (x87?); on 32-bit x86 use -msse2 -mfpmath=sse"
#endif
#endif

/* Builds whose strings must go still need the pointers. */
#ifdef WEFT_NO_STRINGS
#define WEFT_TEXT(s) ""
#else
#define WEFT_TEXT(s) (s)
#endif

/* For what stands in many places and never in a hot one: inlined, it would be a tenth of the code. */
#if defined __GNUC__ || defined __clang__
#define WEFT_NOINLINE __attribute__((noinline))
#else
#define WEFT_NOINLINE
#endif

WEFT_FN weft_detail weft_detail_none(void) {
    weft_detail d;
    memset(&d, 0, sizeof d);
    d.peer = WEFT_NO_RANK;
    return d;
}

/* Fills `d` and hands the status through, so that a refusal is one line where it is found. */
WEFT_FN WEFT_NOINLINE weft_status weft_refuse(weft_detail *d, weft_status status, const char *field, uint64_t expected,
                                              uint64_t got) {
    d->status = status;
    d->field = field;
    d->expected = expected;
    d->got = got;
    return status;
}

WEFT_FN uint64_t weft_double_bits(double v) {
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

/* A status as a value of a detail: errors as they read in two's complement. */
WEFT_FN uint64_t weft_status_value(weft_status s) {
    return (uint64_t)(int64_t)s;
}

WEFT_FN int weft_is_finite(double v) {
    return (weft_double_bits(v) >> 52 & 0x7FFu) != 0x7FFu;
}

/* out = a + b and out = a * b; 0 where the result does not fit. */
WEFT_FN int weft_add_size(size_t a, size_t b, size_t *out) {
    if (b > SIZE_MAX - a) return 0;
    *out = a + b;
    return 1;
}

WEFT_FN int weft_mul_size(size_t a, size_t b, size_t *out) {
    if (a != 0 && b > SIZE_MAX / a) return 0;
    *out = a * b;
    return 1;
}

/* Carving an object out of the caller's memory. The same code runs twice: with base == NULL it only adds up (X_memory),
 * with the caller's memory it hands out pointers (X_init), so that the two cannot disagree. */
#define WEFT_ALIGNMENT ((size_t)64)

typedef struct weft_layout {
    unsigned char *base; /* aligned; NULL while measuring */
    size_t offset;
    int overflow;
    weft_memory_report *report; /* may be NULL */
#ifdef WEFT_CUDA
    int apart; /* data has memory of its own, on a GPU */
    unsigned char *device_base;
    size_t device_offset;
#endif
} weft_layout;

WEFT_FN void *weft_layout_take(weft_layout *l, const char *name, size_t count, size_t each) {
    size_t bytes = 0, end = 0, start = l->offset;
    if (!weft_mul_size(count, each, &bytes) || !weft_add_size(bytes, WEFT_ALIGNMENT - 1, &end) ||
        !weft_add_size(start, end / WEFT_ALIGNMENT * WEFT_ALIGNMENT, &end)) {
        l->overflow = 1;
        return NULL;
    }
    l->offset = end;
    if (l->report && l->report->count < WEFT_MEMORY_ENTRIES) {
        weft_memory_entry *e = &l->report->entry[l->report->count++];
        e->name = name;
        e->offset = start;
        e->bytes = bytes;
    }
    return l->base ? (void *)(l->base + start) : NULL;
}

/* The caller's memory may start anywhere; the slack for this is part of every size. */
WEFT_FN unsigned char *weft_align_memory(void *memory) {
    unsigned char *p = (unsigned char *)memory;
    size_t past = (size_t)((uintptr_t)p % WEFT_ALIGNMENT);
    return past ? p + (WEFT_ALIGNMENT - past) : p;
}

/* Total with slack, or 0 on overflow. */
WEFT_FN size_t weft_layout_total(const weft_layout *l) {
    size_t total = 0;
    if (l->overflow || !weft_add_size(l->offset, WEFT_ALIGNMENT - 1, &total)) return 0;
    return total;
}

#endif /* WEFT_BASE_IMPLEMENTATION */

/* ---- src/weft/tensor.h: implementation ------------------------------------------------------- */
#ifndef WEFT_TENSOR_IMPLEMENTATION
#define WEFT_TENSOR_IMPLEMENTATION

/* Is this a view that the library may compute on? Parameters need their memory; gradients may be absent (NULL).
 * Two parameters that share memory (a tied weight listed twice) would be pulled twice, so they are refused. */
WEFT_FN weft_status weft_tensors_check(const weft_tensors *t, int may_be_absent, weft_detail *d) {
    size_t i, j, elements = 0;
    if (t->count && !t->tensor) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("tensors.tensor"), 1, 0);
    for (i = 0; i < t->count; i++) {
        const weft_tensor *a = &t->tensor[i];
        size_t each = weft_dtype_bytes(a->dtype), bytes = 0;
        if (!each) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("tensor.dtype"), WEFT_F16, (uint64_t)a->dtype);
        if (!weft_mul_size(a->count, each, &bytes) || !weft_add_size(elements, a->count, &elements) ||
            bytes > SIZE_MAX / 2)
            return weft_refuse(d, WEFT_ERR_OVERFLOW, WEFT_TEXT("tensor.count"), SIZE_MAX / 2 / each, a->count);
        if (!a->data) {
            if (a->count && !may_be_absent) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("tensor.data"), 1, 0);
            continue;
        }
        if ((uintptr_t)a->data % each)
            return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("tensor.data (alignment)"), 0,
                               (uintptr_t)a->data % each);
        for (j = 0; !may_be_absent && j < i; j++) {
            const weft_tensor *b = &t->tensor[j];
            uintptr_t a0 = (uintptr_t)a->data, b0 = (uintptr_t)b->data;
            if (a->count && b->count && a0 < b0 + b->count * weft_dtype_bytes(b->dtype) && b0 < a0 + bytes)
                return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("tensors overlap (tied? list it once)"), j, i);
        }
    }
    return WEFT_OK;
}

/* Do gradients describe the same shapes as the parameters? Names the first tensor that differs. */
WEFT_FN weft_status weft_tensors_match(const weft_tensors *params, const weft_tensors *other, weft_detail *d) {
    size_t i;
    if (other->count != params->count)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("tensors.count"), params->count, other->count);
    for (i = 0; i < params->count; i++)
        if (other->tensor[i].count != params->tensor[i].count)
            return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("tensor.count"), params->tensor[i].count,
                               other->tensor[i].count);
    return WEFT_OK;
}

WEFT_FN size_t weft_tensors_elements(const weft_tensors *t) {
    size_t i, n = 0;
    for (i = 0; i < t->count; i++) n += t->tensor[i].count;
    return n;
}

#endif /* WEFT_TENSOR_IMPLEMENTATION */

/* ---- src/weft/pool.h: implementation --------------------------------------------------------- */
#ifndef WEFT_POOL_IMPLEMENTATION
#define WEFT_POOL_IMPLEMENTATION

WEFT_FN void weft_parallel_for(const weft_pool *pool, size_t n, weft_pool_body body, void *arg) {
    size_t i;
    if (pool && pool->parallel_for && n > 1) {
        pool->parallel_for(pool->ctx, n, body, arg);
        return;
    }
    for (i = 0; i < n; i++) body(arg, i);
}

#endif /* WEFT_POOL_IMPLEMENTATION */

/* ---- src/weft/kernels.h: implementation ------------------------------------------------------ */
#ifndef WEFT_KERNELS_IMPLEMENTATION
#define WEFT_KERNELS_IMPLEMENTATION

/* Sums that a pass over two vectors yields: x.y, x.x, y.y. */
typedef struct weft_dots {
    double xy, xx, yy;
} weft_dots;

/* Options of one SGD step; all scalars are rounded to the element type before use. `momentum` 0: plain SGD. */
typedef struct weft_sgd {
    double learning_rate, momentum, weight_decay;
    int nesterov;
    int first; /* the velocity holds nothing yet: v = d, as torch.optim.SGD starts */
} weft_sgd;

/* What an SGD step sees of the gradient on its way. */
typedef struct weft_grad_stats {
    double squared_norm; /* of the gradient without weight decay */
    uint64_t nonfinite;  /* elements that are NaN or infinite */
} weft_grad_stats;

/* The kernels of one element type. Vectors of n elements; n may be 0; no alignment beyond the element's. Outputs
 * may be the same array as an input of the same role (in place), but must not overlap partially.
 * `stream`: what is only written may bypass the cache, since it will be gone from there before it is read.
 * Block kernels take a block (n <= WEFT_BLOCK), or in order the pieces of one, each but the last a multiple of 16
 * long. They add to the 16 lanes of each sum, which are zero when the block begins; weft_lanes_sum makes them the
 * block's sum. */
typedef struct weft_kernel_set {
    /* y = x */
    void (*copy)(size_t n, const void *x, void *y, int stream);
    /* y = a * x */
    void (*scale)(size_t n, double a, const void *x, void *y, int stream);
    /* y = y + a * x */
    void (*axpy)(size_t n, double a, const void *x, void *y);
    /* x = (1 - l) * x + l * c, with 1 - l computed in f64 and rounded once; each product rounded, then the sum */
    void (*pull)(size_t n, double l, const void *c, void *x);
    /* out = w[0] * x[0] + w[1] * x[1] + ..., left to right over the k sources, for the n elements of all arrays that
     * begin with element `first`. A source whose weight, rounded to the element type, is 0 is not read; with no
     * source left the result is +0. Returns how many elements of the result are not finite. out may be one of the
     * sources. */
    uint64_t (*weighted_sum)(size_t first, size_t n, size_t k, const double *w, const void *const *x, void *out,
                             int stream);
    /* lanes[0..15] += x * x. An f64 element beyond 1e154 overflows its square: the sum is then infinite. */
    void (*sqnorm_block)(size_t n, const void *x, double *lanes);
    /* elements that are NaN or infinite */
    uint64_t (*count_nonfinite)(size_t n, const void *x);
    /* The sum modulo 2^64 of mix(bits(x[i]), first + i): the same for any split into calls, any thread count, any
     * order. */
    uint64_t (*hash)(size_t n, uint64_t first, const void *x);
} weft_kernel_set;

/* Those that some algorithms use, in a table of its own, so that the others do not carry them. */
typedef struct weft_gradient_set {
    /* lanes[0..15] += x * y */
    void (*dot_block)(size_t n, const void *x, const void *y, double *lanes);
    /* lanes[0..15] += x * y, [16..31] += x * x, [32..47] += y * y; each equal to the single kernels bit for bit */
    void (*dots_block)(size_t n, const void *x, const void *y, double *lanes);
    /* SGD: d = g + weight_decay * x (weight_decay 0: d = g); v = momentum * v + d (first: v = d, v is not read);
     * nesterov: x = x - lr * (d + momentum * v), else x = x - lr * v; momentum 0: x = x - lr * d and v may be NULL.
     * lanes[0..15] += g * g; returns the number of elements of g that are not finite. g, v and x are three arrays. */
    uint64_t (*sgd_block)(size_t n, const weft_sgd *o, const void *g, void *v, void *x, double *lanes);
    /* SAM: backup = x; x = x + a * g (a = rho / (norm + eps), from the caller) */
    void (*sam_perturb)(size_t n, double a, const void *g, void *x, void *backup, int stream);
} weft_gradient_set;

/* All kernels of one instruction set. `f32` and `f64` compute; the 16-bit types have only conversions. */
typedef struct weft_kernels {
#ifdef WEFT_CUDA
    struct weft_gpu *gpu; /* computes with data of its own memory; NULL: this table with the host's */
#endif
    weft_isa isa;
    int stream;          /* for the kernels that ask */
    void (*fence)(void); /* after streaming, before another thread is told; NULL: not needed */
    weft_kernel_set f32, f64;
    void (*bf16_to_f32)(size_t n, const uint16_t *x, float *y);
    void (*f32_to_bf16)(size_t n, const float *x, uint16_t *y); /* nearest even; NaN stays NaN (quiet) */
    void (*f16_to_f32)(size_t n, const uint16_t *x, float *y);
    void (*f32_to_f16)(size_t n, const float *x, uint16_t *y); /* nearest even, subnormals kept, overflow to infinity */
} weft_kernels;

typedef struct weft_gradient_kernels {
    const weft_kernels *core; /* of the same instruction set */
    weft_gradient_set f32, f64;
} weft_gradient_kernels;

/* What the vocabulary of an instruction set and the kernels over it have in common. */
#define WEFT_LANES_OF_A_BLOCK 16
#define WEFT_GROUP 256 /* elements that a kernel keeps on the stack: a multiple of 16 */

/* Iterations of the loop that follows are independent, even if two of its pointers are equal. */
#if defined __GNUC__ && !defined __clang__ && __GNUC__ >= 5
#define WEFT_INDEPENDENT _Pragma("GCC ivdep")
#else
#define WEFT_INDEPENDENT
#endif

/* mix(bits, index) of the replica hash: splitmix64's finaliser over bits + (index + 1) * 2^64 / golden ratio. */
#define WEFT_HASH_KEY UINT64_C(0x9E3779B97F4A7C15)
#define WEFT_HASH_MUL1 UINT64_C(0xBF58476D1CE4E5B9)
#define WEFT_HASH_MUL2 UINT64_C(0x94D049BB133111EB)

WEFT_FN uint64_t weft_mix(uint64_t z) {
    z = (z ^ z >> 30) * WEFT_HASH_MUL1;
    z = (z ^ z >> 27) * WEFT_HASH_MUL2;
    return z ^ z >> 31;
}

WEFT_FN uint32_t weft_load_u32(const void *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

WEFT_FN uint64_t weft_load_u64(const void *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

WEFT_FN uint32_t weft_f32_bits(float v) {
    return weft_load_u32(&v);
}

WEFT_FN float weft_bits_f32(uint32_t bits) {
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

WEFT_FN double weft_bits_f64(uint64_t bits) {
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

WEFT_FN unsigned weft_f32_nonfinite(float v) {
    return (weft_f32_bits(v) & 0x7F800000u) == 0x7F800000u;
}

WEFT_FN unsigned weft_f64_nonfinite(double v) {
    return !weft_is_finite(v);
}

/* The tables of a set, by its WEFT_SET_NAME. */
#define WEFT_KERNEL_SET(e)                                                                                             \
    {                                                                                                                  \
        WEFT_SET_NAME(e, copy), WEFT_SET_NAME(e, scale), WEFT_SET_NAME(e, axpy), WEFT_SET_NAME(e, pull),               \
            WEFT_SET_NAME(e, weighted_sum), WEFT_SET_NAME(e, sqnorm_block), WEFT_SET_NAME(e, count_nonfinite),         \
            WEFT_SET_NAME(e, hash)                                                                                     \
    }
#define WEFT_KERNEL_SETS                                                                                               \
    WEFT_KERNEL_SET(f32), WEFT_KERNEL_SET(f64), WEFT_SET_NAME(f32, from_bf16), WEFT_SET_NAME(f32, to_bf16),            \
        WEFT_SET_NAME(f32, from_f16), WEFT_SET_NAME(f32, to_f16)
#define WEFT_GRADIENT_SET(e)                                                                                           \
    {                                                                                                                  \
        WEFT_SET_NAME(e, dot_block), WEFT_SET_NAME(e, dots_block), WEFT_SET_NAME(e, sgd_block),                        \
            WEFT_SET_NAME(e, sam_perturb)                                                                              \
    }
#define WEFT_GRADIENT_SETS WEFT_GRADIENT_SET(f32), WEFT_GRADIENT_SET(f64)
/* [0] keeps to the cache, [1] streams where the set can. */
#ifdef WEFT_CUDA
#define WEFT_SET_HEAD(isa, stream) NULL, isa, stream
#else
#define WEFT_SET_HEAD(isa, stream) isa, stream
#endif
#define WEFT_SET_TABLES(set, isa, fence)                                                                               \
    static WEFT_UNUSED const weft_kernels weft_kernels_##set[2] = {{WEFT_SET_HEAD(isa, 0), fence, WEFT_KERNEL_SETS},   \
                                                                   {WEFT_SET_HEAD(isa, 1), fence, WEFT_KERNEL_SETS}};  \
    static WEFT_UNUSED const weft_gradient_kernels weft_gradient_kernels_##set[2] = {                                  \
        {&weft_kernels_##set[0], WEFT_GRADIENT_SETS}, {&weft_kernels_##set[1], WEFT_GRADIENT_SETS}};

#ifdef WEFT_HAVE_X86
WEFT_FN void weft_x86_fence(void) {
    _mm_sfence();
}
#endif

/* Kernels come in families. Headers that are implemented in one unit may need different ones, so each is made where the
 * file that needs it stands: here what all headers have, elsewhere what codec.h, wide.h and replica.h need. */
#define WEFT_CORE_FAMILY 1
#define WEFT_CODEC_FAMILY 2
#define WEFT_WIDE_FAMILY 3
#define WEFT_REPLICA_FAMILY 4

#define WEFT_FAMILY WEFT_CORE_FAMILY
#define WEFT_FAMILY_TABLES WEFT_SET_TABLES
#include SUBSPACE_HEADER
/* Run-time dispatch: which sets there are, and which of them this machine can run. */

#ifdef WEFT_HAVE_X86
/* What processor and operating system (which must save the wide registers) have. cpuid is asked here and not by
 * __builtin_cpu_supports, which needs a symbol of the compiler's run-time library. */
WEFT_FN int weft_x86_has(weft_isa isa) {
    unsigned a, b, c, d, saved, saved_high;
    if (isa == WEFT_ISA_SSE2) return 1;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    if ((c & 0x08801000u) != 0x08801000u) return 0; /* OSXSAVE, POPCNT, FMA */
    __asm__ __volatile__(".byte 0x0f, 0x01, 0xd0" : "=a"(saved), "=d"(saved_high) : "c"(0)); /* xgetbv */
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    if (isa == WEFT_ISA_AVX2) return (saved & 0x06u) == 0x06u && (b & 0x20u) != 0;
    return (saved & 0xE6u) == 0xE6u && (b & 0x80030020u) == 0x80030020u; /* AVX2, AVX-512 F, DQ, VL */
}

/* Bytes of the largest cache, by the leaf that Intel has or the one that AMD has; 0 if neither tells. */
WEFT_FN size_t weft_x86_cache(void) {
    static const unsigned leaf[2] = {4u, 0x8000001Du};
    size_t most = 0;
    unsigned a, b, c, d, i, n;
    for (i = 0; i < 2; i++) {
        for (n = 0; n < 16; n++) { /* one cache each, until one has type 0; type 2 holds instructions */
            uint64_t bytes;
            if (!__get_cpuid_count(leaf[i], n, &a, &b, &c, &d) || (a & 31u) == 0) break;
            if ((a & 31u) == 2) continue;
            bytes = (uint64_t)((b >> 22) + 1) * ((b >> 12 & 0x3FFu) + 1) * ((b & 0xFFFu) + 1) * ((uint64_t)c + 1);
            if (bytes > most && bytes <= SIZE_MAX / 2) most = (size_t)bytes;
        }
    }
    return most;
}
#endif

/* The last-level cache is taken to be this large where the machine does not say. */
#define WEFT_CACHE_BYTES ((size_t)32 << 20)

WEFT_FN size_t weft_cache_bytes(void) {
#ifdef WEFT_HAVE_X86
    const size_t bytes = weft_x86_cache();
    if (bytes) return bytes;
#endif
    return WEFT_CACHE_BYTES;
}

/* Can this object's unit and this machine run `isa`? */
WEFT_FN int weft_isa_available(weft_isa isa) {
    switch (isa) {
    case WEFT_ISA_AUTO:
    case WEFT_ISA_SERIAL: return 1;
#ifdef WEFT_HAVE_X86
    case WEFT_ISA_SSE2:
    case WEFT_ISA_AVX2:
    case WEFT_ISA_AVX512: return weft_x86_has(isa);
#endif
#ifdef WEFT_HAVE_NEON
    case WEFT_ISA_NEON: return 1;
#endif
#ifdef WEFT_HAVE_WASM
    case WEFT_ISA_WASM: return 1;
#endif
    default: return 0;
    }
}

/* What WEFT_ISA_AUTO stands for here. The enumeration goes from slow to fast on every machine. */
WEFT_FN weft_isa weft_isa_resolve(weft_isa isa) {
    int i;
    if (isa != WEFT_ISA_AUTO) return isa;
    for (i = WEFT_ISA_COUNT - 1; i > WEFT_ISA_SERIAL; i--)
        if (weft_isa_available((weft_isa)i)) return (weft_isa)i;
    return WEFT_ISA_SERIAL;
}

/* The rest of a function: returns an entry of a family's tables, weft_X_kernels_SET[stream], of a set that is here. */
#ifdef WEFT_HAVE_X86
#define WEFT_SELECT_X86(tables, stream)                                                                                \
    case WEFT_ISA_SSE2: return &tables##_sse2[stream];                                                                 \
    case WEFT_ISA_AVX2: return &tables##_avx2[stream];                                                                 \
    case WEFT_ISA_AVX512: return &tables##_avx512[stream];
#else
#define WEFT_SELECT_X86(tables, stream)
#endif
#ifdef WEFT_HAVE_NEON
#define WEFT_SELECT_NEON(tables, stream)                                                                               \
    case WEFT_ISA_NEON: return &tables##_neon[stream];
#else
#define WEFT_SELECT_NEON(tables, stream)
#endif
#ifdef WEFT_HAVE_WASM
#define WEFT_SELECT_WASM(tables, stream)                                                                               \
    case WEFT_ISA_WASM: return &tables##_wasm[stream];
#else
#define WEFT_SELECT_WASM(tables, stream)
#endif
#define WEFT_SELECT(tables, isa, stream)                                                                               \
    switch (isa) {                                                                                                     \
        WEFT_SELECT_X86(tables, stream)                                                                                \
        WEFT_SELECT_NEON(tables, stream)                                                                               \
        WEFT_SELECT_WASM(tables, stream)                                                                               \
    default: return &tables##_serial[stream];                                                                          \
    }

/* The table for an object whose passes write `bytes` (0: few): what exceeds the last-level cache bypasses it. NULL if
 * `isa` names a set that this unit or machine does not have. */
WEFT_FN const weft_kernels *weft_kernels_select(weft_isa isa, size_t bytes) {
    const int stream = bytes > weft_cache_bytes();
    isa = weft_isa_resolve(isa);
    if (!weft_isa_available(isa)) return NULL;
    WEFT_SELECT(weft_kernels, isa, stream)
}

WEFT_FN const weft_gradient_kernels *weft_gradient_kernels_select(weft_isa isa, size_t bytes) {
    const weft_kernels *core = weft_kernels_select(isa, bytes);
    if (!core) return NULL;
    WEFT_SELECT(weft_gradient_kernels, core->isa, core->stream)
}
/* Drivers: kernels over whole tensors, 16-bit types by way of f32, blocks over the host's threads. */

/* WEFT_OK, or WEFT_ERR_FLOAT_ENV if this thread flushes subnormals or does not round to nearest, or if the compiler
 * contracts or reassociates; detail.field says which. Operands are volatile, so that nothing is computed ahead of time,
 * and where it matters are read into locals, so that what is fused in a kernel is fused here. */
WEFT_FN weft_status weft_float_probe(weft_detail *d) {
    volatile float f_one = 1.0f, f_quarter = 2.98023223876953125e-8f; /* a quarter of 1's last place: 2^-25 */
    volatile float f_a = 1.000244140625f, f_c = -1.00048828125f;      /* 1 + 2^-12, -(1 + 2^-11) */
    volatile float f_tiny = weft_bits_f32(1u), f_small = weft_bits_f32(0x00800000u), f_out; /* subnormal, normal */
    volatile double d_one = 1.0, d_quarter = 5.5511151231257827e-17; /* 2^-54 */
    volatile double d_a = 1.0 + 1.0 / 134217728.0, d_c = -1.0 - 1.0 / 67108864.0; /* 1 + 2^-27, -(1 + 2^-26) */
    volatile double d_tiny = weft_bits_f64(1u), d_small = 2.2250738585072014e-308, d_out;
    const char *wrong = NULL;

    /* what is found later explains more than what was found before */
    f_out = f_small * 0.5f;
    d_out = d_small * 0.5;
    if (f_out == 0 || d_out == 0) wrong = WEFT_TEXT("subnormal results are flushed to zero");

    f_out = f_tiny * 1e20f;
    d_out = d_tiny * 1e200;
    if (f_out == 0 || d_out == 0) wrong = WEFT_TEXT("subnormal operands are taken as zero");

    { /* (1 + e)^2 - (1 + 2 e) is 0 if the product is rounded first, e^2 if it is not */
        const float fa = f_a, fc = f_c;
        const double da = d_a, dc = d_c;
        f_out = fa * fa + fc;
        d_out = da * da + dc;
    }
    if (f_out != 0 || d_out != 0) wrong = WEFT_TEXT("contraction (a * b + c is rounded once)");

    { /* a reassociating compiler finds the quarter here */
        const float fa = f_one, fb = f_quarter;
        const double da = d_one, db = d_quarter;
        f_out = (fa + fb) - fa;
        d_out = (da + db) - da;
    }
    if (f_out != 0 || d_out != 0) wrong = WEFT_TEXT("reassociation ((a + b) - a is b)");

    f_out = f_one + f_quarter;
    d_out = d_one + d_quarter;
    if (f_out == 1 && d_out == 1) { /* not upwards */
        f_out = f_one - f_quarter;
        d_out = d_one - d_quarter;
    }
    if (f_out != 1 || d_out != 1) wrong = WEFT_TEXT("rounding is not to nearest");

    return wrong ? weft_refuse(d, WEFT_ERR_FLOAT_ENV, wrong, 0, 1) : WEFT_OK;
}

/* The 16 lanes of a block in a pairwise tree. Overwrites the lanes. */
WEFT_FN double weft_lanes_sum(double *lanes) {
    size_t half, i;
    for (half = WEFT_LANES_OF_A_BLOCK / 2; half; half /= 2)
        for (i = 0; i < half; i++) lanes[i] += lanes[i + half];
    return lanes[0];
}

/* ---- one kernel over one tensor ---- */
typedef enum weft_op {
    WEFT_OP_COPY,
    WEFT_OP_SCALE,
    WEFT_OP_AXPY,
    WEFT_OP_PULL,
    WEFT_OP_PERTURB,
    WEFT_OP_WEIGHTED_SUM,
    WEFT_OP_DOT,
    WEFT_OP_SQNORM,
    WEFT_OP_DOTS,
    WEFT_OP_SGD,
    WEFT_OP_COUNT,
    WEFT_OP_HASH
} weft_op;

typedef struct weft_work {
    const weft_kernels *kernels;
    const weft_gradient_kernels *gradient; /* perturb, dot, dots, sgd */
    weft_op op;
    weft_dtype dtype;
    size_t n;
    void *array[3];                     /* in the order of the kernel's arguments */
    unsigned reads, writes;             /* bit i: array i is read, written */
    unsigned sums;                      /* f64 sums a block yields, ... */
    unsigned counts;                    /* ... and then whole numbers, 0 or 1 */
    double a;                           /* scale, axpy, pull, perturb */
    const weft_sgd *sgd;                /* sgd */
    const double *w;                    /* weighted sum */
    const void *const *source;          /* weighted sum */
    size_t sources;                     /* weighted sum */
    uint64_t first;                     /* hash: index of the tensor's first element */
} weft_work;

/* What a block yields: sums, then counts. */
typedef union weft_slot {
    double sum;
    uint64_t count;
} weft_slot;

#define WEFT_SLOTS 3

/* n elements of f32 or f64 at p, which begin with element `at` of the tensor. Returns the count. */
WEFT_FN uint64_t weft_work_apply(const weft_work *j, int wide, size_t at, size_t n, void *const *p, double *lanes,
                                 int stream) {
    const weft_kernel_set *s = wide ? &j->kernels->f64 : &j->kernels->f32;
    const weft_gradient_set *d = j->gradient ? wide ? &j->gradient->f64 : &j->gradient->f32 : NULL;
    switch (j->op) {
    case WEFT_OP_COPY: s->copy(n, p[0], p[1], stream); break;
    case WEFT_OP_SCALE: s->scale(n, j->a, p[0], p[1], stream); break;
    case WEFT_OP_AXPY: s->axpy(n, j->a, p[0], p[1]); break;
    case WEFT_OP_PULL: s->pull(n, j->a, p[0], p[1]); break;
    case WEFT_OP_PERTURB: d->sam_perturb(n, j->a, p[0], p[1], p[2], stream); break;
    case WEFT_OP_WEIGHTED_SUM: return s->weighted_sum(at, n, j->sources, j->w, j->source, j->array[0], stream);
    case WEFT_OP_DOT: d->dot_block(n, p[0], p[1], lanes); break;
    case WEFT_OP_SQNORM: s->sqnorm_block(n, p[0], lanes); break;
    case WEFT_OP_DOTS: d->dots_block(n, p[0], p[1], lanes); break;
    case WEFT_OP_SGD: return d->sgd_block(n, j->sgd, p[0], p[1], p[2], lanes);
    case WEFT_OP_COUNT: return s->count_nonfinite(n, p[0]);
    case WEFT_OP_HASH: return s->hash(n, j->first + at, p[0]);
    }
    return 0;
}

WEFT_FN void weft_widen(const weft_work *j, size_t n, const uint16_t *x, float *y) {
    (j->dtype == WEFT_BF16 ? j->kernels->bf16_to_f32 : j->kernels->f16_to_f32)(n, x, y);
}

WEFT_FN void weft_narrow(const weft_work *j, size_t n, const float *x, uint16_t *y) {
    (j->dtype == WEFT_BF16 ? j->kernels->f32_to_bf16 : j->kernels->f32_to_f16)(n, x, y);
}

/* The same for a 16-bit type: pieces go through f32 on the stack. */
WEFT_FN uint64_t weft_work_apply16(const weft_work *j, size_t at, size_t n, double *lanes) {
    const weft_kernel_set *s = &j->kernels->f32;
    float piece[3][WEFT_GROUP];
    void *p[3];
    uint64_t count = 0;
    size_t i, m;
    p[0] = piece[0];
    p[1] = piece[1];
    p[2] = piece[2];
    for (; n; n -= m, at += m) {
        m = n < WEFT_GROUP ? n : WEFT_GROUP;
        if (j->op == WEFT_OP_WEIGHTED_SUM) {
            /* as the kernel does it, source by source, the sum in f32; what counts is the rounded result */
            int started = 0;
            uint16_t *out = (uint16_t *)j->array[0] + at;
            for (i = 0; i < j->sources; i++) {
                if ((float)j->w[i] == 0) continue;
                weft_widen(j, m, (const uint16_t *)j->source[i] + at, piece[0]);
                if (started) s->axpy(m, j->w[i], piece[0], piece[1]);
                else s->scale(m, j->w[i], piece[0], piece[1], 0);
                started = 1;
            }
            if (!started) memset(piece[1], 0, sizeof piece[1]);
            weft_narrow(j, m, piece[1], out);
            weft_widen(j, m, out, piece[0]);
            count += s->count_nonfinite(m, piece[0]);
            continue;
        }
        for (i = 0; i < 3; i++)
            if (j->reads >> i & 1u) weft_widen(j, m, (const uint16_t *)j->array[i] + at, piece[i]);
        count += weft_work_apply(j, 0, at, m, p, lanes, 0);
        for (i = 0; i < 3; i++)
            if (j->writes >> i & 1u) weft_narrow(j, m, piece[i], (uint16_t *)j->array[i] + at);
    }
    return count;
}

/* Block `b` of the tensor: its sums and counts. */
WEFT_FN void weft_work_block(const weft_work *j, size_t b, weft_slot *slot) {
    double lanes[WEFT_SLOTS * WEFT_LANES_OF_A_BLOCK];
    const size_t at = b * WEFT_BLOCK, n = j->n - at < WEFT_BLOCK ? j->n - at : WEFT_BLOCK;
    uint64_t count;
    unsigned i;
    for (i = 0; i < j->sums * WEFT_LANES_OF_A_BLOCK; i++) lanes[i] = 0.0;
    if (weft_dtype_bytes(j->dtype) == 2) {
        if (j->op == WEFT_OP_COPY) {
            memmove((uint16_t *)j->array[1] + at, (const uint16_t *)j->array[0] + at, n * 2);
            return;
        }
        count = weft_work_apply16(j, at, n, lanes);
    } else {
        const size_t each = weft_dtype_bytes(j->dtype);
        void *p[3];
        for (i = 0; i < 3; i++) p[i] = j->array[i] ? (void *)((unsigned char *)j->array[i] + at * each) : NULL;
        count = weft_work_apply(j, j->dtype == WEFT_F64, at, n, p, lanes, j->kernels->stream);
    }
    for (i = 0; i < j->sums; i++) slot[i].sum = weft_lanes_sum(lanes + i * WEFT_LANES_OF_A_BLOCK);
    if (j->counts) slot[i].count = count;
}

/* What this thread has streamed is there for all that are told so from now on. */
WEFT_FN void weft_work_fence(const weft_work *j) {
    if (j->kernels->stream && j->kernels->fence) j->kernels->fence();
}

/* The total takes in the next block. */
WEFT_FN void weft_work_add(const weft_work *j, weft_slot *total, const weft_slot *slot) {
    unsigned i;
    for (i = 0; i < j->sums; i++) total[i].sum += slot[i].sum;
    if (j->counts) total[i].count += slot[i].count;
}

/* A piece is what a thread takes at a time. A wave of pieces is bounded by the room for the blocks' results, which the
 * calling thread adds up in order. */
#define WEFT_PIECE_BLOCKS ((size_t)16)
#define WEFT_WAVE_SLOTS ((size_t)2048)

typedef struct weft_wave {
    const weft_work *work;
    size_t first, end; /* blocks */
    weft_slot *slot;   /* of block `first`; NULL: blocks yield nothing */
} weft_wave;

WEFT_FN void weft_wave_piece(void *arg, size_t index) {
    const weft_wave *wave = (const weft_wave *)arg;
    const size_t each = wave->work->sums + wave->work->counts;
    size_t b = wave->first + index * WEFT_PIECE_BLOCKS, end = b + WEFT_PIECE_BLOCKS;
    if (end > wave->end) end = wave->end;
    for (; b < end; b++) weft_work_block(wave->work, b, each ? wave->slot + (b - wave->first) * each : NULL);
    weft_work_fence(wave->work);
}

/* Not inlined, so that its frame of 16 KiB is there only where a pool is. */
WEFT_FN WEFT_NOINLINE void weft_work_parallel(const weft_work *j, const weft_pool *pool, size_t blocks,
                                              weft_slot *total) {
    weft_slot slot[WEFT_WAVE_SLOTS];
    const size_t each = j->sums + j->counts;
    const size_t most = each ? WEFT_WAVE_SLOTS / each / WEFT_PIECE_BLOCKS * WEFT_PIECE_BLOCKS : blocks;
    weft_wave wave;
    size_t b;
    wave.work = j;
    wave.slot = slot;
    for (wave.first = 0; wave.first < blocks; wave.first = wave.end) {
        wave.end = blocks - wave.first < most ? blocks : wave.first + most;
        weft_parallel_for(pool, (wave.end - wave.first + WEFT_PIECE_BLOCKS - 1) / WEFT_PIECE_BLOCKS, weft_wave_piece,
                          &wave);
        if (each)
            for (b = wave.first; b < wave.end; b++) weft_work_add(j, total, slot + (b - wave.first) * each);
    }
}

#ifdef WEFT_CUDA
WEFT_FN void weft_gpu_run(struct weft_gpu *u, const weft_work *j, weft_slot *total);
#endif

/* Runs the work; total holds WEFT_SLOTS slots. */
WEFT_FN void weft_work_run(const weft_work *j, const weft_pool *pool, weft_slot *total) {
    const size_t blocks = j->n / WEFT_BLOCK + (j->n % WEFT_BLOCK != 0);
    weft_slot slot[WEFT_SLOTS];
    size_t b;
#ifdef WEFT_CUDA
    if (j->kernels->gpu) {
        weft_gpu_run(j->kernels->gpu, j, total);
        return;
    }
#endif
    for (b = 0; b < j->sums; b++) total[b].sum = 0.0;
    if (j->counts) total[b].count = 0;
    if (pool && pool->parallel_for && blocks > WEFT_PIECE_BLOCKS) {
        weft_work_parallel(j, pool, blocks, total);
        return;
    }
    for (b = 0; b < blocks; b++) {
        weft_work_block(j, b, slot);
        weft_work_add(j, total, slot);
    }
    weft_work_fence(j);
}

/* `reads` and `writes` say what becomes of the arrays, so that inputs may go without their const here. */
WEFT_FN weft_work weft_work_make(const weft_kernels *k, weft_op op, weft_dtype t, size_t n, const void *x,
                                 const void *y, unsigned reads, unsigned writes) {
    weft_work j;
    memset(&j, 0, sizeof j);
    j.kernels = k;
    j.op = op;
    j.dtype = t;
    j.n = n;
    j.array[0] = (void *)(uintptr_t)x;
    j.array[1] = (void *)(uintptr_t)y;
    j.array[2] = NULL;
    j.reads = reads;
    j.writes = writes;
    return j;
}

/* ---- the element-wise kernels over n elements of any dtype; all arrays have this dtype ---- */
WEFT_FN void weft_run_copy(const weft_kernels *k, const weft_pool *pool, weft_dtype t, size_t n, const void *x,
                           void *y) {
    const weft_work j = weft_work_make(k, WEFT_OP_COPY, t, n, x, y, 1, 2);
    weft_work_run(&j, pool, NULL);
}

WEFT_FN void weft_run_scale(const weft_kernels *k, const weft_pool *pool, weft_dtype t, size_t n, double a,
                            const void *x, void *y) {
    weft_work j = weft_work_make(k, WEFT_OP_SCALE, t, n, x, y, 1, 2);
    j.a = a;
    weft_work_run(&j, pool, NULL);
}

WEFT_FN void weft_run_axpy(const weft_kernels *k, const weft_pool *pool, weft_dtype t, size_t n, double a,
                           const void *x, void *y) {
    weft_work j = weft_work_make(k, WEFT_OP_AXPY, t, n, x, y, 3, 2);
    j.a = a;
    weft_work_run(&j, pool, NULL);
}

WEFT_FN void weft_run_pull(const weft_kernels *k, const weft_pool *pool, weft_dtype t, size_t n, double l,
                           const void *c, void *x) {
    weft_work j = weft_work_make(k, WEFT_OP_PULL, t, n, c, x, 3, 2);
    j.a = l;
    weft_work_run(&j, pool, NULL);
}

WEFT_FN void weft_run_sam_perturb(const weft_gradient_kernels *k, const weft_pool *pool, weft_dtype t, size_t n,
                                  double a, const void *g, void *x, void *backup) {
    weft_work j = weft_work_make(k->core, WEFT_OP_PERTURB, t, n, g, x, 3, 6);
    j.gradient = k;
    j.array[2] = backup;
    j.a = a;
    weft_work_run(&j, pool, NULL);
}

WEFT_FN void weft_run_sam_restore(const weft_kernels *k, const weft_pool *pool, weft_dtype t, size_t n,
                                  const void *backup, void *x) {
    weft_run_copy(k, pool, t, n, backup, x);
}

/* Returns how many elements of the result, as stored, are not finite. */
WEFT_FN uint64_t weft_run_weighted_sum(const weft_kernels *k, const weft_pool *pool, weft_dtype t, size_t n,
                                       size_t sources, const double *w, const void *const *x, void *out) {
    weft_work j = weft_work_make(k, WEFT_OP_WEIGHTED_SUM, t, n, out, NULL, 0, 0);
    weft_slot total[WEFT_SLOTS];
    j.counts = 1;
    j.sources = sources;
    j.w = w;
    j.source = x;
    weft_work_run(&j, pool, total);
    return total[0].count;
}

/* ---- reductions over one tensor of any dtype; blocks start at its first element ---- */
WEFT_FN double weft_run_dot(const weft_gradient_kernels *k, const weft_pool *pool, weft_dtype t, size_t n,
                            const void *x, const void *y) {
    weft_work j = weft_work_make(k->core, WEFT_OP_DOT, t, n, x, y, 3, 0);
    weft_slot total[WEFT_SLOTS];
    j.gradient = k;
    j.sums = 1;
    weft_work_run(&j, pool, total);
    return total[0].sum;
}

WEFT_FN double weft_run_sqnorm(const weft_kernels *k, const weft_pool *pool, weft_dtype t, size_t n, const void *x) {
    weft_work j = weft_work_make(k, WEFT_OP_SQNORM, t, n, x, NULL, 1, 0);
    weft_slot total[WEFT_SLOTS];
    j.sums = 1;
    weft_work_run(&j, pool, total);
    return total[0].sum;
}

WEFT_FN weft_dots weft_run_dots(const weft_gradient_kernels *k, const weft_pool *pool, weft_dtype t, size_t n,
                                const void *x, const void *y) {
    weft_work j = weft_work_make(k->core, WEFT_OP_DOTS, t, n, x, y, 3, 0);
    weft_slot total[WEFT_SLOTS];
    weft_dots r;
    j.gradient = k;
    j.sums = 3;
    weft_work_run(&j, pool, total);
    r.xy = total[0].sum;
    r.xx = total[1].sum;
    r.yy = total[2].sum;
    return r;
}

/* g, v and x have the same dtype; v may be NULL without momentum. */
WEFT_FN weft_grad_stats weft_run_sgd(const weft_gradient_kernels *k, const weft_pool *pool, weft_dtype t, size_t n,
                                     const weft_sgd *o, const void *g, void *v, void *x) {
    const int plain = t == WEFT_F64 ? o->momentum == 0 : (float)o->momentum == 0;
    weft_work j = weft_work_make(k->core, WEFT_OP_SGD, t, n, g, v, plain ? 5 : o->first ? 5 : 7, plain ? 4 : 6);
    weft_slot total[WEFT_SLOTS];
    weft_grad_stats r;
    j.gradient = k;
    j.array[2] = x;
    j.sums = j.counts = 1;
    j.sgd = o;
    weft_work_run(&j, pool, total);
    r.squared_norm = total[0].sum;
    r.nonfinite = total[1].count;
    return r;
}

WEFT_FN uint64_t weft_run_count_nonfinite(const weft_kernels *k, const weft_pool *pool, weft_dtype t, size_t n,
                                          const void *x) {
    weft_work j = weft_work_make(k, WEFT_OP_COUNT, t, n, x, NULL, 1, 0);
    weft_slot total[WEFT_SLOTS];
    j.counts = 1;
    weft_work_run(&j, pool, total);
    return total[0].count;
}

/* 16-bit elements are hashed as the f32 that they stand for. */
WEFT_FN uint64_t weft_run_hash(const weft_kernels *k, const weft_pool *pool, weft_dtype t, size_t n, uint64_t first,
                               const void *x) {
    weft_work j = weft_work_make(k, WEFT_OP_HASH, t, n, x, NULL, 1, 0);
    weft_slot total[WEFT_SLOTS];
    j.counts = 1;
    j.first = first;
    weft_work_run(&j, pool, total);
    return total[0].count;
}
#ifdef WEFT_CUDA
#define WEFT_DEVICE_PART
#include SUBSPACE_HEADER
#undef WEFT_DEVICE_PART
#endif

#endif /* WEFT_KERNELS_IMPLEMENTATION */

/* ---- src/weft/wide.h: implementation --------------------------------------------------------- */
#ifndef WEFT_WIDE_IMPLEMENTATION
#define WEFT_WIDE_IMPLEMENTATION

/* Sums over several workers, in f64 before anything is rounded; for sums of gradients in their own subspace. */
typedef struct weft_wide_set {
    /* s (out NULL) or out, then rounded once, = (started: s +) w[0] * x[0] + ..., left to right over 1 to 4 sources,
     * for n columns: all in f64 */
    void (*sum_wide)(size_t n, size_t k, const double *w, const void *const *x, double *s, int started, void *out,
                     int stream);
    /* lanes[0..15] += x * s, [16..31] += x * x */
    void (*dots_wide)(size_t n, const void *x, const double *s, double *lanes);
    /* all products of four with each other: lanes[16 p ..] += x[i] * x[j], p counting the pairs i <= j, j fastest */
    void (*gram_block)(size_t n, const void *const *x, double *lanes);
    /* as in the gradients' set */
    void (*dots_block)(size_t n, const void *x, const void *y, double *lanes);
} weft_wide_set;

typedef struct weft_wide_kernels {
    const weft_kernels *core; /* of the same instruction set */
    weft_wide_set f32, f64;
} weft_wide_kernels;

#define WEFT_WIDE_SET(e)                                                                                               \
    {                                                                                                                  \
        WEFT_SET_NAME(e, sum_wide), WEFT_SET_NAME(e, dots_wide), WEFT_SET_NAME(e, gram_block),                         \
            WEFT_SET_NAME(e, dots_block)                                                                               \
    }
#define WEFT_WIDE_TABLES(set, isa, fence)                                                                              \
    static WEFT_UNUSED const weft_wide_kernels weft_wide_kernels_##set[2] = {                                          \
        {&weft_kernels_##set[0], WEFT_WIDE_SET(f32), WEFT_WIDE_SET(f64)},                                              \
        {&weft_kernels_##set[1], WEFT_WIDE_SET(f32), WEFT_WIDE_SET(f64)}};

#define WEFT_FAMILY WEFT_WIDE_FAMILY
#define WEFT_FAMILY_TABLES WEFT_WIDE_TABLES
#include SUBSPACE_HEADER

/* As weft_kernels_select. */
WEFT_FN const weft_wide_kernels *weft_wide_kernels_select(weft_isa isa, size_t bytes) {
    const weft_kernels *core = weft_kernels_select(isa, bytes);
    if (!core) return NULL;
    WEFT_SELECT(weft_wide_kernels, core->isa, core->stream)
}

#ifdef WEFT_CUDA
#define WEFT_DEVICE_WIDE
#include SUBSPACE_HEADER
#undef WEFT_DEVICE_WIDE
#endif

#endif /* WEFT_WIDE_IMPLEMENTATION */

/* ---- src/weft/transport.h: implementation ---------------------------------------------------- */
#ifndef WEFT_TRANSPORT_IMPLEMENTATION
#define WEFT_TRANSPORT_IMPLEMENTATION

WEFT_FN weft_status weft_transport_check(const weft_transport *t, weft_detail *d) {
    if (!t) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("transport"), 1, 0);
    if (t->struct_size != sizeof *t)
        return weft_refuse(d, WEFT_ERR_ABI, WEFT_TEXT("transport.struct_size"), sizeof *t, t->struct_size);
    if (t->size == 0 || t->size == WEFT_NO_RANK)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("transport.size"), 1, t->size);
    if (t->rank >= t->size) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("transport.rank"), t->size - 1, t->rank);
    if (t->size > 1 && (!t->send || !t->recv || !t->test || !t->cancel))
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("transport callbacks"), 4, 0);
    if (t->max_message_bytes && t->max_message_bytes < WEFT_SMALLEST_MESSAGE)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("transport.max_message_bytes"), WEFT_SMALLEST_MESSAGE,
                           t->max_message_bytes);
    if (t->shared > 1) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("transport.shared"), 1, t->shared);
    return WEFT_OK;
}

#endif /* WEFT_TRANSPORT_IMPLEMENTATION */

/* ---- src/weft/selftest.h: implementation ----------------------------------------------------- */
#ifndef WEFT_SELFTEST_IMPLEMENTATION
#define WEFT_SELFTEST_IMPLEMENTATION

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

#endif /* WEFT_SELFTEST_IMPLEMENTATION */

/* ---- src/weft/wire.h: implementation --------------------------------------------------------- */
#ifndef WEFT_WIRE_IMPLEMENTATION
#define WEFT_WIRE_IMPLEMENTATION

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

#endif /* WEFT_WIRE_IMPLEMENTATION */

/* ---- src/weft/device.h: implementation ------------------------------------------------------- */
#ifndef WEFT_DEVICE_IMPLEMENTATION
#define WEFT_DEVICE_IMPLEMENTATION

#ifdef WEFT_CUDA
/* As weft_layout_take, of what holds elements of tensors. */
WEFT_FN void *weft_layout_data(weft_layout *l, const char *name, size_t count, size_t each) {
    weft_layout there = *l;
    void *p;
    if (!l->apart) return weft_layout_take(l, name, count, each);
    there.base = l->device_base;
    there.offset = l->device_offset;
    p = weft_layout_take(&there, name, count, each);
    if (l->report && l->report->count && l->report->entry[l->report->count - 1].name == name)
        l->report->entry[l->report->count - 1].on_device = 1;
    l->device_offset = there.offset;
    l->overflow = there.overflow;
    return p;
}

/* Of an object whose data is on a GPU. */
typedef struct weft_gpu {
    weft_device device;
    weft_kernels kernels; /* the table for drivers.h: its gpu is this */
    weft_slot *total;     /* device memory */
    unsigned char *scratch;
    unsigned char *codec; /* device memory for kernels/cuda_codec.h; NULL: it is not needed */
    weft_status failed;   /* sticky */
} weft_gpu;

WEFT_FN void weft_gpu_note(weft_gpu *u, weft_status s) {
    if (s < 0 && u->failed == WEFT_OK) u->failed = s == WEFT_ERR_UNSUPPORTED ? WEFT_ERR_DEVICE : s;
}

/* Everything that was enqueued is done. */
WEFT_FN void weft_gpu_settle(weft_gpu *u) {
    weft_gpu_note(u, weft_device_said(&u->device, cudaStreamSynchronize(u->device.stream)));
}

/* Between host and device; done when it returns. */
WEFT_FN void weft_gpu_move(weft_gpu *u, void *to, const void *from, size_t bytes, cudaMemcpyKind kind) {
    if (!bytes) return;
    weft_gpu_note(u, weft_device_said(&u->device, cudaMemcpyAsync(to, from, bytes, kind, u->device.stream)));
    weft_gpu_settle(u);
}

/* What work with the status `s` of being enqueued has left in `total`. After a failure zeros: nobody looks at them, the
 * object is broken. */
WEFT_FN void weft_gpu_fetch(weft_gpu *u, weft_status s, weft_slot *total, size_t slots) {
    weft_gpu_note(u, s);
    weft_gpu_move(u, total, u->total, slots * sizeof *total, cudaMemcpyDeviceToHost);
    if (u->failed < 0) memset(total, 0, slots * sizeof *total);
}

WEFT_FN void weft_gpu_run(weft_gpu *u, const weft_work *j, weft_slot *total) {
    const size_t slots = j->sums + j->counts;
    const weft_status s = weft_device_run(&u->device, j, slots ? u->total : NULL);
    if (slots)
        weft_gpu_fetch(u, s, total, slots);
    else
        weft_gpu_note(u, s);
}

/* An object's data, to the host and from it. */
WEFT_FN void weft_data_out(weft_gpu *u, void *to, const void *from, size_t bytes) {
    if (u)
        weft_gpu_move(u, to, from, bytes, cudaMemcpyDeviceToHost);
    else if (bytes)
        memcpy(to, from, bytes);
}

WEFT_FN void weft_data_in(weft_gpu *u, void *to, const void *from, size_t bytes) {
    if (u)
        weft_gpu_move(u, to, from, bytes, cudaMemcpyHostToDevice);
    else if (bytes)
        memcpy(to, from, bytes);
}

/* Within the object's data; enqueued. */
WEFT_FN void weft_data_copy(weft_gpu *u, void *to, const void *from, size_t bytes) {
    if (!u)
        memcpy(to, from, bytes);
    else if (bytes)
        weft_gpu_note(u, weft_device_said(
                             &u->device, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, u->device.stream)));
}

/* Two places of the object's data change what they hold, `bytes` bytes of numbers; enqueued. */
WEFT_FN void weft_gpu_exchange(weft_gpu *u, void *a, void *b, size_t bytes) {
    weft_gpu_note(u, weft_device_exchange(&u->device, a, b, bytes));
}

/* All bytes 0; enqueued. */
WEFT_FN void weft_data_zero(weft_gpu *u, void *p, size_t bytes) {
    if (!u)
        memset(p, 0, bytes);
    else if (bytes)
        weft_gpu_note(u, weft_device_said(&u->device, cudaMemsetAsync(p, 0, bytes, u->device.stream)));
}

/* What came from a machine of the other byte order, which is rare: by way of the host. */
WEFT_FN void weft_data_swap(weft_gpu *u, unsigned char *p, size_t bytes, size_t each) {
    unsigned char piece[4096];
    if (!u) weft_swap(p, bytes, each);
    while (u && bytes) {
        const size_t n = bytes < sizeof piece ? bytes : sizeof piece;
        weft_data_out(u, piece, p, n);
        weft_swap(piece, n, each);
        weft_data_in(u, p, piece, n);
        p += n;
        bytes -= n;
    }
}

WEFT_FN weft_status weft_cuda_check(const weft_cuda *c, weft_detail *d) {
    if (c && c->struct_size != sizeof *c)
        return weft_refuse(d, WEFT_ERR_ABI, WEFT_TEXT("cuda.struct_size"), sizeof *c, c->struct_size);
    return WEFT_OK;
}

/* Data goes to the memory that was lent. */
WEFT_FN void weft_cuda_lend(const weft_cuda *c, weft_layout *l) {
    l->apart = c != NULL;
    l->device_base = c && c->memory ? weft_align_memory(c->memory) : NULL;
}

/* Room for the kernels, for tensors as large as those of the two lists, sums over `size` workers, and blocks of so many
 * elements that WEFT_BLOCK has `smaller` of them. */
WEFT_FN void weft_gpu_layout(weft_layout *l, weft_gpu *u, const weft_tensors *a, const weft_tensors *b, uint32_t size,
                             size_t smaller) {
    size_t i, most = 1, bytes;
    if (!l->apart) return;
    for (i = 0; i < a->count; i++)
        if (a->tensor[i].count > most) most = a->tensor[i].count;
    for (i = 0; i < b->count; i++)
        if (b->tensor[i].count > most) most = b->tensor[i].count;
    if (!weft_mul_size(most, smaller, &most) || (bytes = weft_device_bytes(most, size)) == 0) {
        l->overflow = 1;
        return;
    }
    u->scratch = (unsigned char *)weft_layout_data(l, WEFT_TEXT("device work"), bytes, 1);
    u->total = (weft_slot *)weft_layout_data(l, WEFT_TEXT("device results"), WEFT_SLOTS, sizeof(weft_slot));
    u->device.blocks = most; /* until weft_gpu_init */
    u->device.sources = size;
}

WEFT_FN size_t weft_layout_device_total(const weft_layout *l) {
    size_t total = 0;
    if (!l->apart || l->overflow || !weft_add_size(l->device_offset, WEFT_ALIGNMENT - 1, &total)) return 0;
    return total;
}

/* Makes `*kernels` a table that computes there. */
WEFT_FN weft_status weft_gpu_init(weft_gpu *u, const weft_cuda *c, const weft_layout *l, const weft_kernels **kernels,
                                  weft_detail *d) {
    const size_t most = u->device.blocks, sources = u->device.sources, need = weft_layout_device_total(l);
    weft_slot flushed;
    weft_status s;
    if (!c) return WEFT_OK;
    if (!c->memory || c->bytes < need)
        return weft_refuse(d, WEFT_ERR_MEMORY, WEFT_TEXT("cuda.bytes"), need, c->memory ? c->bytes : 0);
    s = weft_device_init(&u->device, (cudaStream_t)c->stream, u->scratch, weft_device_bytes(most, sources), most,
                         sources);
    if (s == WEFT_OK) s = weft_device_float_probe(&u->device, u->total);
    weft_gpu_fetch(u, s, &flushed, 1);
    if (u->failed < 0)
        return weft_refuse(d, u->failed, WEFT_TEXT("cuda (error of the runtime)"), 0, (uint64_t)u->device.error);
    if (flushed.count)
        return weft_refuse(d, WEFT_ERR_FLOAT_ENV, WEFT_TEXT("subnormals are flushed to zero (nvcc -ftz)"), 0,
                           flushed.count);
    u->kernels = **kernels;
    u->kernels.stream = 0;
    u->kernels.gpu = u;
    *kernels = &u->kernels;
    return WEFT_OK;
}

/* What objects do about it, nothing without WEFT_CUDA. `d`: a descriptor. */
#define WEFT_GPU_CHECK(d, detail) weft_cuda_check((d)->cuda, detail)
#define WEFT_GPU_LEND(l, d) weft_cuda_lend((d)->cuda, l)
#define WEFT_GPU_LAYOUT(l, u, a, b, size) weft_gpu_layout(l, u, a, b, size, 1)
#define WEFT_GPU_REPORT(report, l) (void)((report)->device_bytes = weft_layout_device_total(l))
#define WEFT_GPU_INIT(u, d, l, kernels, detail) weft_gpu_init(u, (d)->cuda, l, kernels, detail)
#define WEFT_GPU_USE(part, d, u) (void)((part).gpu = (d)->cuda ? (u) : NULL)
#define WEFT_GPU_SETTLE(map)                                                                                           \
    do {                                                                                                               \
        if ((map).gpu) weft_gpu_settle((map).gpu);                                                                     \
    } while (0)
/* Has it failed? */
#define WEFT_GPU_IS_BROKEN(part) ((part)->gpu && (part)->gpu->failed < 0)
/* If so the group is broken, too, for good: its status. */
#define WEFT_GPU_BREAKS_GROUP(g) weft_group_device(g)
#define WEFT_GPU_OF(map) ((map) ? (map)->gpu : NULL)
#define WEFT_GPU_IN(map) (map).gpu
#else
#define weft_layout_data weft_layout_take
#define WEFT_GPU_CHECK(d, detail) WEFT_OK
#define WEFT_GPU_LEND(l, d) (void)0
#define WEFT_GPU_LAYOUT(l, u, a, b, size) (void)0
#define WEFT_GPU_REPORT(report, l) (void)0
#define WEFT_GPU_INIT(u, d, l, kernels, detail) WEFT_OK
#define WEFT_GPU_USE(part, d, u) (void)0
#define WEFT_GPU_SETTLE(map) (void)0
#define WEFT_GPU_IS_BROKEN(part) 0
#define WEFT_GPU_BREAKS_GROUP(g) WEFT_OK
#define WEFT_GPU_OF(map) NULL
#define WEFT_GPU_IN(map) NULL
#define weft_data_out(gpu, to, from, bytes) memcpy(to, from, bytes)
#define weft_data_in(gpu, to, from, bytes) memcpy(to, from, bytes)
#define weft_data_copy(gpu, to, from, bytes) memcpy(to, from, bytes)
#define weft_data_zero(gpu, p, bytes) memset(p, 0, bytes)
#define weft_data_swap(gpu, p, bytes, each) weft_swap(p, bytes, each)
#endif

#endif /* WEFT_DEVICE_IMPLEMENTATION */

/* ---- src/weft/group.h: implementation -------------------------------------------------------- */
#ifndef WEFT_GROUP_IMPLEMENTATION
#define WEFT_GROUP_IMPLEMENTATION

/* ---- Ranges: where the bytes of an exchange are, without flattening the host's tensors ----
 *
 * A map gives every tensor a position in a "mirror", one flat buffer in which all tensors stand one after the other
 * at multiples of 64 bytes. Positions name the same elements on every worker, whether they lie in the host's tensors
 * or in a mirror. */
typedef struct weft_map {
    const weft_tensor *tensor;
    size_t count;
    size_t *position; /* count + 1 */
#ifdef WEFT_CUDA
    weft_gpu *gpu; /* NULL: mirrors and tensors are host memory */
#endif
} weft_map;

WEFT_FN size_t weft_map_bytes(const weft_map *m) {
    return m->position[m->count];
}

WEFT_FN void weft_map_init(weft_map *m, const weft_tensors *t, size_t *position) {
    size_t i, at = 0;
    m->tensor = t->tensor;
    m->count = t->count;
    m->position = position;
    for (i = 0; i < t->count; i++) {
        position[i] = at;
        at += (t->tensor[i].count * weft_dtype_bytes(t->tensor[i].dtype) + WEFT_ALIGNMENT - 1) / WEFT_ALIGNMENT *
              WEFT_ALIGNMENT;
    }
    position[i] = at;
}

/* The bytes of a mirror for these tensors; 0 in *ok on overflow. */
WEFT_FN size_t weft_map_measure(const weft_tensors *t, int *ok) {
    size_t i, at = 0;
    for (i = 0; i < t->count; i++) {
        size_t bytes = t->tensor[i].count * weft_dtype_bytes(t->tensor[i].dtype); /* checked by weft_tensors_check */
        if (!weft_add_size(at, (bytes + WEFT_ALIGNMENT - 1) / WEFT_ALIGNMENT * WEFT_ALIGNMENT, &at)) *ok = 0;
    }
    return at;
}

typedef struct weft_range {
    const weft_map *map;       /* NULL: raw bytes at base, elements of `each` bytes */
    const weft_tensor *tensor; /* with a map: the host's tensors, if base is NULL */
    unsigned char *base;       /* mirror memory holding position `origin` first */
    size_t origin, lo, hi, each;
    size_t at, index;    /* cursor */
    unsigned char *then; /* a mirror whose positions [then_lo, then_hi) follow; NULL: nothing does */
    size_t then_lo, then_hi;
} weft_range;

WEFT_FN WEFT_NOINLINE weft_range weft_range_raw(void *base, size_t bytes, size_t each) {
    weft_range r;
    memset(&r, 0, sizeof r);
    r.base = (unsigned char *)base;
    r.hi = bytes;
    r.each = each;
    return r;
}

WEFT_FN WEFT_NOINLINE weft_range weft_range_map(const weft_map *map, const weft_tensor *tensor, unsigned char *base,
                                                size_t origin, size_t lo, size_t hi) {
    weft_range r;
    size_t end = map->count;
    memset(&r, 0, sizeof r);
    while (r.index < end) { /* the first tensor that is not wholly before: there may be many */
        const size_t middle = r.index + (end - r.index) / 2;
        if (map->position[middle + 1] <= lo)
            r.index = middle + 1;
        else
            end = middle;
    }
    r.map = map;
    r.tensor = tensor;
    r.base = base;
    r.origin = origin;
    r.lo = lo;
    r.hi = hi;
    r.at = lo;
    return r;
}

/* The next contiguous piece of at most `limit` bytes; 0 at the end. *each: bytes of one element; *which: the tensor. */
WEFT_FN size_t weft_range_next(weft_range *r, size_t limit, unsigned char **p, size_t *each, size_t *which) {
    size_t bytes;
    limit = limit / WEFT_ALIGNMENT * WEFT_ALIGNMENT;
    *which = 0;
    if (!r->map) {
        bytes = r->hi - r->at < limit ? r->hi - r->at : limit;
        *p = bytes ? r->base + r->at : r->base;
        *each = r->each;
        r->at += bytes;
        return bytes;
    }
    for (;;) {
        for (; r->index < r->map->count; r->index++) {
            const weft_tensor *t = &r->map->tensor[r->index];
            size_t start = r->map->position[r->index], end = start + t->count * weft_dtype_bytes(t->dtype);
            if (end > r->hi) end = r->hi;
            if (r->at < start) r->at = start;
            if (r->at >= end) continue;
            bytes = end - r->at < limit ? end - r->at : limit;
            *p = r->base ? r->base + (r->at - r->origin) : (unsigned char *)r->tensor[r->index].data + (r->at - start);
            *each = weft_dtype_bytes(t->dtype);
            *which = r->index;
            r->at += bytes;
            return bytes;
        }
        if (!r->then) return 0;
        r->base = r->then;
        r->then = NULL;
        r->origin = r->index = 0;
        r->at = r->then_lo;
        r->hi = r->then_hi;
    }
}

WEFT_FN uint64_t weft_range_bytes(weft_range r) {
    unsigned char *p;
    size_t each, which, bytes;
    uint64_t total = 0;
    while ((bytes = weft_range_next(&r, SIZE_MAX, &p, &each, &which)) != 0) total += bytes;
    return total;
}

/* ---- Members and their links ---- */

enum { WEFT_LETTERS = 4 };                          /* control messages under way to one peer */
enum { WEFT_REQUESTS_PER_PEER = WEFT_LETTERS + 3 }; /* and a control receive, a bulk send, a bulk receive */
enum { WEFT_FLOW_DONE = 0, WEFT_FLOW_WAITING = 1, WEFT_FLOW_BULK = 2 };

typedef struct weft_flow {
    int state, active; /* active: the request is with the transport */
    weft_range range;
    weft_request request;
    unsigned char *piece; /* of the request under way */
    size_t piece_bytes, piece_each, piece_limit;
} weft_flow;

typedef struct weft_peer {
    int member, lost, left, control; /* control: WEFT_IN_... */
    int told;                        /* this worker's good-bye is on its way to it */
    int swap;                        /* the message being received is of the other byte order */
    weft_request request;            /* of the control receive */
    unsigned char bytes[WEFT_CONTROL_BYTES];
    weft_header head; /* of the message held */
    weft_letter slot[WEFT_LETTERS];
    weft_flow out, in;
    uint64_t out_arg, in_arg; /* argument 0 of the exchange */
} weft_peer;

typedef struct weft_group weft_group;

/* What the owner says to a control message of its own kind: taken, keep it for later, or an error. */
typedef weft_status (*weft_control_fn)(void *owner, uint32_t from, const weft_header *h, const unsigned char *payload);

struct weft_group {
    const weft_transport *net;
    uint32_t channel, epoch, members, here; /* here: index of this worker among the members */
    uint32_t *member;                       /* ascending ranks */
    weft_peer *peer;                        /* one a rank */
    weft_control_fn on_control;
    void *owner;
    uint32_t kind, step; /* of the exchange under way, or last */
    uint64_t round;
    int exchanging, synced, may_leave; /* may_leave: a good-bye is taken now */
    int hearing;                       /* a lost peer's last words are being read */
    int busy;                          /* a verb runs: re-entry is refused */
    int progress;                      /* something has moved since the deadline was looked at */
    uint64_t timeout_ns, since_ns;
    int timing;
    weft_status failed; /* sticky until the next view */
    const char *phase;
    uint64_t phase_round;       /* for detail: the round that the owner is in */
    weft_detail detail, broken; /* broken: of `failed` */
    weft_traffic traffic;
    weft_trace_fn trace;
    void *trace_ctx;
#ifdef WEFT_CUDA
    weft_gpu *gpu; /* computes what is sent; NULL: the processor does */
#endif
};

WEFT_FN void weft_group_layout(weft_layout *l, uint32_t size, weft_peer **peer, uint32_t **member) {
    *peer = (weft_peer *)weft_layout_take(l, WEFT_TEXT("links, one a worker"), size, sizeof(weft_peer));
    *member = (uint32_t *)weft_layout_take(l, WEFT_TEXT("members"), size, sizeof(uint32_t));
}

WEFT_FN WEFT_NOINLINE void weft_group_trace(const weft_group *g, weft_event_kind kind, uint32_t peer, uint64_t round,
                                            uint64_t value) {
    weft_event e;
    if (!g->trace) return;
    e.kind = (uint32_t)kind;
    e.rank = g->net->rank;
    e.peer = peer;
    e.round = round;
    e.value = value;
    e.phase = g->phase;
    g->trace(g->trace_ctx, &e);
}

/* Records an error with its place. */
WEFT_FN WEFT_NOINLINE weft_status weft_group_fail(weft_group *g, weft_status status, uint32_t peer, const char *field,
                                                  uint64_t expected, uint64_t got) {
    g->detail.status = status;
    g->detail.peer = peer;
    g->detail.round = g->phase_round;
    g->detail.phase = g->phase;
    g->detail.field = field;
    g->detail.expected = expected;
    g->detail.got = got;
    return status;
}

/* An error after which the messages of this view can no longer be trusted to match: only a new view helps. */
WEFT_FN WEFT_NOINLINE weft_status weft_group_break(weft_group *g, weft_status status, uint32_t peer, const char *field,
                                                   uint64_t expected, uint64_t got) {
    weft_group_fail(g, status, peer, field, expected, got);
    g->broken = g->detail;
    g->failed = status;
    return status;
}

WEFT_FN weft_status weft_view_check(const weft_view *v, const weft_transport *net, weft_detail *d) {
    uint32_t i, found = 0;
    if (v->struct_size != sizeof *v)
        return weft_refuse(d, WEFT_ERR_ABI, WEFT_TEXT("view.struct_size"), sizeof *v, v->struct_size);
    if (v->count == 0 || v->count > net->size || !v->members)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("view.count"), net->size, v->count);
    for (i = 0; i < v->count; i++) {
        if (v->members[i] >= net->size || (i && v->members[i] <= v->members[i - 1]))
            return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("view.members (ascending ranks)"), net->size - 1,
                               v->members[i]);
        if (v->members[i] == net->rank) found = 1;
    }
    if (!found) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("view.members (without this rank)"), net->rank, 0);
    return WEFT_OK;
}

/* Is this a view that may follow the present one? Changes nothing. */
WEFT_FN weft_status weft_group_check_view(weft_group *g, const weft_view *v) {
    weft_status s;
    uint32_t i;
    if (!v) return weft_group_fail(g, WEFT_ERR_ARGUMENT, WEFT_NO_RANK, WEFT_TEXT("view"), 1, 0);
    if ((s = weft_view_check(v, g->net, &g->detail)) != WEFT_OK) return s;
    if (v->epoch <= g->epoch)
        return weft_group_fail(g, WEFT_ERR_ARGUMENT, WEFT_NO_RANK, WEFT_TEXT("view.epoch"), (uint64_t)g->epoch + 1,
                               v->epoch);
    for (i = 0; i < v->count; i++)
        if (g->peer[v->members[i]].lost || g->peer[v->members[i]].left)
            return weft_group_fail(g, WEFT_ERR_PEER_LOST, v->members[i],
                                   g->peer[v->members[i]].left ? WEFT_TEXT("view.members (left)")
                                                               : WEFT_TEXT("view.members"),
                                   0, v->members[i]);
    return WEFT_OK;
}

/* Takes back from the transport whatever is under way with a peer: all of it, or only what touches the host's
 * memory. */
WEFT_FN void weft_peer_cancel(weft_group *g, weft_peer *p, int all) {
    int i;
    if (p->out.active) g->net->cancel(g->net->ctx, &p->out.request);
    if (p->in.active) g->net->cancel(g->net->ctx, &p->in.request);
    p->out.active = p->in.active = 0;
    p->out.state = p->in.state = WEFT_FLOW_DONE;
    if (!all) return;
    for (i = 0; i < WEFT_LETTERS; i++)
        if (p->slot[i].busy) {
            g->net->cancel(g->net->ctx, &p->slot[i].request);
            p->slot[i].busy = 0;
        }
    if (p->control == WEFT_IN_POSTED) g->net->cancel(g->net->ctx, &p->request);
    p->control = WEFT_IN_NONE;
}

/* Takes up a view (checked by the caller). Old control messages stay under way: they are dropped by their epoch. */
WEFT_FN void weft_group_set_view(weft_group *g, const weft_view *v) {
    uint32_t r, i;
    for (r = 0; r < g->net->size; r++) g->peer[r].member = g->peer[r].told = 0;
    for (i = 0; i < v->count; i++) {
        g->member[i] = v->members[i];
        g->peer[v->members[i]].member = 1;
        if (v->members[i] == g->net->rank) g->here = i;
    }
    for (r = 0; r < g->net->size; r++) weft_peer_cancel(g, &g->peer[r], !g->peer[r].member || g->peer[r].lost);
    g->members = v->count;
    g->epoch = v->epoch;
    g->exchanging = g->synced = 0;
    g->round = 0;
    g->step = 0;
    g->failed = WEFT_OK;
    g->timing = 0;
}

/* A worker has said good-bye, at a point where all others hear it before they need it again. */
WEFT_FN void weft_group_remove(weft_group *g, uint32_t rank) {
    uint32_t i, n = 0;
    weft_peer_cancel(g, &g->peer[rank], 1);
    g->peer[rank].left = 1;
    g->peer[rank].member = 0;
    for (i = 0; i < g->members; i++)
        if (g->member[i] != rank) g->member[n++] = g->member[i];
    g->members = n;
    for (i = 0; i < n; i++)
        if (g->member[i] == g->net->rank) g->here = i;
    weft_group_trace(g, WEFT_EVENT_PEER_LEFT, rank, g->phase_round, n);
}

WEFT_FN weft_status weft_group_lose(weft_group *g, uint32_t rank) {
    weft_peer *p = &g->peer[rank];
    /* whoever is back before its loss is noticed may have said its first word: for a view that is still to come */
    const int later = p->control == WEFT_IN_HELD && p->head.epoch > g->epoch;
    /* Whoever has been told good-bye is needed for nothing any more. It may have heard everybody's, said none of its
     * own, and ended; and if it did not live to hear it, the others settle that among themselves. */
    if (p->member && p->told) {
        weft_group_remove(g, rank);
        return WEFT_OK;
    }
    if (!p->lost) weft_group_trace(g, WEFT_EVENT_PEER_LOST, rank, g->phase_round, 0);
    p->lost = 1;
    weft_peer_cancel(g, p, 1);
    if (later) p->control = WEFT_IN_HELD;
    if (!p->member) return WEFT_OK;
    return weft_group_break(g, WEFT_ERR_PEER_LOST, rank, NULL, 0, 0);
}

WEFT_FN int weft_group_last_words(weft_group *g, uint32_t rank);

/* What a callback's error means. WEFT_OK: nothing, the peer has said good-bye and its link may close. */
WEFT_FN weft_status weft_group_error(weft_group *g, uint32_t rank, weft_status s, uint64_t expected, uint64_t got) {
    if (s == WEFT_ERR_PEER_LOST) return weft_group_last_words(g, rank) ? WEFT_OK : weft_group_lose(g, rank);
    if (s == WEFT_ERR_TRUNCATED)
        return weft_group_break(g, WEFT_ERR_PROTOCOL, rank, WEFT_TEXT("length"), expected, got);
    return weft_group_break(g, WEFT_ERR_TRANSPORT, rank, WEFT_TEXT("status of a callback"), 0, weft_status_value(s));
}

#ifdef WEFT_CUDA
/* Nothing that a GPU has failed to compute is told to anybody. */
WEFT_FN weft_status weft_group_device(weft_group *g) {
    if (!g->gpu || g->gpu->failed == WEFT_OK) return WEFT_OK;
    return weft_group_break(g, g->gpu->failed, WEFT_NO_RANK, WEFT_TEXT("cuda"), 0, (uint64_t)g->gpu->device.error);
}
#endif

/* Sends a control message if a slot is free; WEFT_AGAIN if not. `payload` bytes are copied from `data`. */
WEFT_FN weft_status weft_group_post(weft_group *g, uint32_t rank, weft_header *h, const void *data, uint32_t payload) {
    weft_peer *p = &g->peer[rank];
    weft_status s;
    size_t bytes;
    int i;
    if ((s = WEFT_GPU_BREAKS_GROUP(g)) < 0) return s;
    for (i = 0; i < WEFT_LETTERS && p->slot[i].busy; i++) continue;
    if (i == WEFT_LETTERS) return WEFT_AGAIN;
    h->big_endian = weft_big_endian();
    h->epoch = g->epoch;
    h->sender = g->net->rank;
    h->payload = payload;
    if (payload) memcpy(p->slot[i].bytes + WEFT_HEADER_BYTES, data, payload);
    bytes = weft_header_write(p->slot[i].bytes, h);
    memset(&p->slot[i].request, 0, sizeof p->slot[i].request);
    s = g->net->send(g->net->ctx, rank, g->channel * WEFT_TAGS_PER_CHANNEL, p->slot[i].bytes, bytes,
                     &p->slot[i].request);
    if (s < 0) return weft_group_error(g, rank, s, 0, 0); /* WEFT_OK: to one who has gone */
    p->slot[i].busy = 1;
    g->traffic.control_sent += bytes;
    g->traffic.messages_sent++;
    weft_group_trace(g, WEFT_EVENT_SENT, rank, g->phase_round, bytes);
    g->progress = 1;
    return WEFT_OK;
}

/* Bulk data of one view never meets that of another: each epoch has its own tag, so that what an abandoned round
 * left in the network is never taken for the next one's. Tags come round again after 2,047 epochs. */
WEFT_FN uint32_t weft_group_bulk_tag(const weft_group *g) {
    return g->channel * WEFT_TAGS_PER_CHANNEL + 1u + g->epoch % (WEFT_TAGS_PER_CHANNEL - 1u);
}

/* ---- Exchanges: in one step, some data to some members and some data from some ---- */

WEFT_FN void weft_group_begin(weft_group *g, uint32_t kind, uint64_t round, uint32_t step) {
    uint32_t i;
    g->kind = kind;
    g->round = round;
    g->step = step;
    g->exchanging = 1;
    g->timing = 0;
    for (i = 0; i < g->members; i++) {
        weft_peer *p = &g->peer[g->member[i]];
        p->out.state = p->in.state = WEFT_FLOW_DONE;
        p->in_arg = p->out_arg = 0;
    }
}

/* To and from one member; NULL: nothing in that direction. An empty range is a message all the same. */
WEFT_FN WEFT_NOINLINE void weft_group_flow(weft_group *g, uint32_t rank, const weft_range *out, const weft_range *in,
                                           uint64_t arg) {
    weft_peer *p = &g->peer[rank];
    if (out) {
        p->out.range = *out;
        p->out.state = WEFT_FLOW_WAITING;
        p->out_arg = arg;
    }
    if (in) {
        p->in.range = *in;
        p->in.state = WEFT_FLOW_WAITING;
    }
}

WEFT_FN size_t weft_group_piece_limit(const weft_group *g) {
    uint64_t most = g->net->max_message_bytes;
    return most && most < (uint64_t)1 << 30 ? (size_t)most / WEFT_ALIGNMENT * WEFT_ALIGNMENT : (size_t)1 << 30;
}

/* Data small enough travels in the control message itself. */
WEFT_FN size_t weft_range_pack(weft_range r, unsigned char *to) {
    unsigned char *p;
    size_t each, which, bytes, n = 0;
    while ((bytes = weft_range_next(&r, SIZE_MAX, &p, &each, &which)) != 0) {
        weft_data_out(WEFT_GPU_OF(r.map), to + n, p, bytes);
        n += bytes;
    }
    return n;
}

WEFT_FN void weft_range_unpack(weft_range r, const unsigned char *from, int swap) {
    unsigned char *p;
    size_t each, which, bytes, n = 0;
    while ((bytes = weft_range_next(&r, SIZE_MAX, &p, &each, &which)) != 0) {
        weft_data_in(WEFT_GPU_OF(r.map), p, from + n, bytes);
        if (swap) weft_data_swap(WEFT_GPU_OF(r.map), p, bytes, each);
        n += bytes;
    }
}

/* Moves the bulk messages of one flow on: one request at a time, piece by piece, straight from and into place. */
WEFT_FN weft_status weft_flow_bulk(weft_group *g, uint32_t rank, weft_flow *f, int sending) {
    weft_status s;
    size_t which;
    for (;;) {
        if (f->active) {
            s = g->net->test(g->net->ctx, &f->request);
            if (s == WEFT_AGAIN) return WEFT_OK;
            f->active = 0;
            if (s < 0) return weft_group_error(g, rank, s, f->piece_bytes, f->request.bytes);
            g->progress = 1;
            if (!sending) {
                if (f->request.bytes != f->piece_bytes)
                    return weft_group_break(g, WEFT_ERR_PROTOCOL, rank, WEFT_TEXT("bulk length"), f->piece_bytes,
                                            f->request.bytes);
                if (g->peer[rank].swap)
                    weft_data_swap(WEFT_GPU_OF(f->range.map), f->piece, f->piece_bytes, f->piece_each);
                g->traffic.payload_received += f->piece_bytes;
                g->traffic.messages_received++;
                weft_group_trace(g, WEFT_EVENT_RECEIVED, rank, g->phase_round, f->piece_bytes);
            }
        }
        f->piece_bytes = weft_range_next(&f->range, f->piece_limit, &f->piece, &f->piece_each, &which);
        if (f->piece_bytes == 0) {
            f->state = WEFT_FLOW_DONE;
            return WEFT_OK;
        }
        memset(&f->request, 0, sizeof f->request);
        s = sending ? g->net->send(g->net->ctx, rank, weft_group_bulk_tag(g), f->piece, f->piece_bytes, &f->request)
                    : g->net->recv(g->net->ctx, rank, weft_group_bulk_tag(g), f->piece, f->piece_bytes, &f->request);
        if (s < 0) return weft_group_error(g, rank, s, f->piece_bytes, 0);
        f->active = 1;
        if (sending) {
            g->traffic.payload_sent += f->piece_bytes;
            g->traffic.messages_sent++;
            weft_group_trace(g, WEFT_EVENT_SENT, rank, g->phase_round, f->piece_bytes);
        }
    }
}

WEFT_FN weft_status weft_flow_send(weft_group *g, uint32_t rank) {
    weft_peer *p = &g->peer[rank];
    weft_status s;
    if (p->out.state == WEFT_FLOW_WAITING) {
        unsigned char packed[WEFT_INLINE_BYTES];
        weft_header h;
        uint32_t payload = 0;
        memset(&h, 0, sizeof h);
        h.kind = g->kind;
        h.round = g->round;
        h.step = g->step;
        h.arg0 = p->out_arg;
        h.bytes = weft_range_bytes(p->out.range);
        p->out.piece_limit = weft_group_piece_limit(g);
        h.piece = (uint32_t)p->out.piece_limit;
        if (h.bytes <= WEFT_INLINE_BYTES) payload = (uint32_t)weft_range_pack(p->out.range, packed);
        s = weft_group_post(g, rank, &h, packed, payload);
        if (s == WEFT_AGAIN) return WEFT_OK;
        if (s < 0) return s;
        if (payload && g->kind == WEFT_KIND_EXCHANGE) {
            g->traffic.control_sent -= payload;
            g->traffic.payload_sent += payload;
        }
        p->out.state = h.bytes <= WEFT_INLINE_BYTES ? WEFT_FLOW_DONE : WEFT_FLOW_BULK;
    }
    return p->out.state == WEFT_FLOW_BULK ? weft_flow_bulk(g, rank, &p->out, 1) : WEFT_OK;
}

/* Is the message held the one that the exchange under way waits for? WEFT_AGAIN: it is for later. */
WEFT_FN weft_status weft_flow_accept(weft_group *g, uint32_t rank) {
    weft_peer *p = &g->peer[rank];
    const weft_header *h = &p->head;
    uint64_t want;
    if (h->kind == WEFT_KIND_SYNC ? g->synced : g->synced && h->round < g->round)
        return weft_group_break(g, WEFT_ERR_PROTOCOL, rank, WEFT_TEXT("header.round"), g->round, h->round);
    if (h->kind != WEFT_KIND_SYNC && g->synced && h->round == g->round && h->step < g->step + !g->exchanging)
        return weft_group_break(g, WEFT_ERR_PROTOCOL, rank, WEFT_TEXT("header.step"), g->step, h->step);
    if (!g->exchanging || h->kind != g->kind) return WEFT_AGAIN;
    if (h->kind == WEFT_KIND_EXCHANGE && (h->round != g->round || h->step != g->step)) return WEFT_AGAIN;
    if (p->in.state != WEFT_FLOW_WAITING)
        return weft_group_break(g, WEFT_ERR_PROTOCOL, rank, WEFT_TEXT("unawaited message"), g->step, h->step);
    want = weft_range_bytes(p->in.range);
    if (h->bytes != want)
        return weft_group_break(g, WEFT_ERR_PROTOCOL, rank, WEFT_TEXT("header.bytes"), want, h->bytes);
    if (h->payload != (want <= WEFT_INLINE_BYTES ? want : 0))
        return weft_group_break(g, WEFT_ERR_PROTOCOL, rank, WEFT_TEXT("header.payload"), want, h->payload);
    p->in_arg = h->arg0;
    p->swap = h->big_endian != weft_big_endian();
    if (want <= WEFT_INLINE_BYTES) {
        weft_range_unpack(p->in.range, p->bytes + WEFT_HEADER_BYTES, p->swap);
        if (h->kind == WEFT_KIND_EXCHANGE) {
            g->traffic.control_received -= want;
            g->traffic.payload_received += want;
        }
        p->in.state = WEFT_FLOW_DONE;
        return WEFT_OK;
    }
    if (h->piece < WEFT_ALIGNMENT || h->piece % WEFT_ALIGNMENT)
        return weft_group_break(g, WEFT_ERR_PROTOCOL, rank, WEFT_TEXT("header.piece"), WEFT_ALIGNMENT, h->piece);
    p->in.piece_limit = h->piece;
    p->in.state = WEFT_FLOW_BULK;
    return WEFT_OK;
}

/* What to do with the control message held of a member: WEFT_OK: taken; WEFT_AGAIN: not yet. */
WEFT_FN weft_status weft_group_take(weft_group *g, uint32_t rank) {
    weft_peer *p = &g->peer[rank];
    if (p->head.epoch != g->epoch) {
        if (p->head.epoch > g->epoch) return WEFT_AGAIN;
        g->traffic.dropped++;
        return WEFT_OK;
    }
    switch (p->head.kind) {
    case WEFT_KIND_EXCHANGE:
    case WEFT_KIND_SYNC: return weft_flow_accept(g, rank);
    case WEFT_KIND_LEAVE:
        if (!g->synced || !g->may_leave) return WEFT_AGAIN;
        weft_group_remove(g, rank);
        return WEFT_OK;
    default:
        if (!g->on_control)
            return weft_group_break(g, WEFT_ERR_PROTOCOL, rank, WEFT_TEXT("header.kind"), WEFT_KIND_EXCHANGE,
                                    p->head.kind);
        return g->synced ? g->on_control(g->owner, rank, &p->head, p->bytes + WEFT_HEADER_BYTES) : WEFT_AGAIN;
    }
}

/* Reads what has come from a member, as far as it can be taken now. The bound keeps a flood from one peer from
 * starving the host. */
WEFT_FN weft_status weft_peer_receive(weft_group *g, uint32_t rank) {
    weft_peer *p = &g->peer[rank];
    weft_status s;
    int bound;
    for (bound = 0; bound < 64; bound++) {
        if (p->control == WEFT_IN_NONE) {
            memset(&p->request, 0, sizeof p->request);
            s = g->net->recv(g->net->ctx, rank, g->channel * WEFT_TAGS_PER_CHANNEL, p->bytes, WEFT_CONTROL_BYTES,
                             &p->request);
            if (s < 0) return weft_group_error(g, rank, s, 0, 0);
            p->control = WEFT_IN_POSTED;
        }
        if (p->control == WEFT_IN_POSTED) {
            s = g->net->test(g->net->ctx, &p->request);
            if (s == WEFT_AGAIN) break;
            p->control = WEFT_IN_NONE;
            if (s < 0) return weft_group_error(g, rank, s, WEFT_CONTROL_BYTES, p->request.bytes);
            s = weft_header_read(p->bytes, p->request.bytes > SIZE_MAX ? 0 : (size_t)p->request.bytes, rank, &p->head,
                                 &g->detail);
            if (s < 0) return weft_group_break(g, s, rank, g->detail.field, g->detail.expected, g->detail.got);
            p->control = WEFT_IN_HELD;
            g->progress = 1;
            g->traffic.messages_received++;
            g->traffic.control_received += p->request.bytes;
            weft_group_trace(g, WEFT_EVENT_RECEIVED, rank, g->phase_round, p->request.bytes);
        }
        s = weft_group_take(g, rank);
        if (s < 0) return s;
        if (s == WEFT_AGAIN) break;
        p->control = WEFT_IN_NONE;
        if (!p->member) break; /* it has said good-bye */
    }
    return WEFT_OK;
}

/* A link fails: has the peer said good-bye before it closed it? What it sent last may still wait to be read, while
 * something of ours that it no longer wants has failed already. */
WEFT_FN int weft_group_last_words(weft_group *g, uint32_t rank) {
    const weft_peer *p = &g->peer[rank];
    if (!g->synced || g->failed) return 0;
    /* (not if it is the receive that has failed: a new one could only hear what comes after the loss) */
    if (!g->hearing && p->control == WEFT_IN_POSTED) {
        g->hearing = 1;
        if (weft_peer_receive(g, rank) < 0) {
            g->hearing = 0;
            return 0;
        }
        g->hearing = 0;
    }
    return !p->member || (p->control == WEFT_IN_HELD && p->head.kind == WEFT_KIND_LEAVE && p->head.epoch == g->epoch);
}

/* One link: everything that can move without waiting. */
WEFT_FN weft_status weft_peer_pump(weft_group *g, uint32_t rank) {
    weft_peer *p = &g->peer[rank];
    weft_status s = weft_peer_receive(g, rank);
    int i;
    if (s < 0 || !p->member) return s;
    for (i = 0; i < WEFT_LETTERS; i++) {
        if (!p->slot[i].busy) continue;
        s = g->net->test(g->net->ctx, &p->slot[i].request);
        if (s == WEFT_AGAIN) continue;
        p->slot[i].busy = 0;
        if (s < 0 && (s = weft_group_error(g, rank, s, 0, 0)) < 0) return s;
        if (!p->member) return WEFT_OK;
        g->progress = 1;
    }
    if (p->out.state != WEFT_FLOW_DONE && (s = weft_flow_send(g, rank)) < 0) return s;
    if (p->in.state == WEFT_FLOW_BULK) return weft_flow_bulk(g, rank, &p->in, 0);
    return WEFT_OK;
}

/* Moves all links on. WEFT_OK, or an error. */
WEFT_FN weft_status weft_group_pump(weft_group *g) {
    uint32_t i = 0;
    if (g->failed) {
        g->detail = g->broken;
        return g->failed;
    }
    while (i < g->members) {
        uint32_t rank = g->member[i];
        weft_status s;
        if (rank != g->net->rank && (s = weft_peer_pump(g, rank)) < 0) return s;
        if (i < g->members && g->member[i] == rank) i++; /* else it left, and the next one stands here */
    }
    return WEFT_OK;
}

/* No progress for timeout_ns while waiting for `peer`: said once a time-out, and nothing is lost. */
WEFT_FN weft_status weft_group_deadline(weft_group *g, uint32_t peer) {
    uint64_t now;
    if (!g->timeout_ns) return WEFT_AGAIN;
    now = g->net->now(g->net->ctx);
    if (g->progress || !g->timing) {
        g->progress = 0;
        g->timing = 1;
        g->since_ns = now;
    }
    if (now - g->since_ns < g->timeout_ns) return WEFT_AGAIN;
    g->timing = 0;
    return weft_group_fail(g, WEFT_ERR_TIMEOUT, peer, WEFT_TEXT("timeout_ns"), g->timeout_ns, now - g->since_ns);
}

/* Moves the exchange on: WEFT_OK when every flow of it is done. */
WEFT_FN weft_status weft_group_poll(weft_group *g) {
    weft_status s = weft_group_pump(g);
    uint32_t i;
    if (s < 0) return s;
    for (i = 0; i < g->members; i++) {
        const weft_peer *p = &g->peer[g->member[i]];
        if (p->in.state != WEFT_FLOW_DONE || p->out.state != WEFT_FLOW_DONE)
            return weft_group_deadline(g, g->member[i]);
    }
    g->exchanging = 0;
    if (g->kind == WEFT_KIND_SYNC) {
        g->synced = 1;
        g->round = 0; /* every exchange of the new view comes after this */
        g->step = 0;
    }
    return WEFT_OK;
}

/* Are all control messages of this worker gone? */
WEFT_FN int weft_group_flushed(const weft_group *g) {
    uint32_t i;
    int k;
    for (i = 0; i < g->members; i++)
        for (k = 0; k < WEFT_LETTERS; k++)
            if (g->peer[g->member[i]].slot[k].busy) return 0;
    return 1;
}

WEFT_FN void weft_group_close(weft_group *g) {
    uint32_t r;
    for (r = 0; r < g->net->size; r++) weft_peer_cancel(g, &g->peer[r], 1);
    g->members = 0;
    WEFT_GPU_SETTLE(*g); /* nothing is left to be done in memory that goes back to the host */
}

/* Says good-bye to all who are still there, as of `round`. WEFT_OK when it is complete: the group is then closed. */
WEFT_FN weft_status weft_group_leave(weft_group *g, uint64_t round) {
    uint32_t i = 0, due = 0;
    while (i < g->members) {
        const uint32_t r = g->member[i];
        weft_peer *p = &g->peer[r];
        if (r != g->net->rank && !p->told) {
            weft_header h;
            weft_status s;
            memset(&h, 0, sizeof h);
            h.kind = WEFT_KIND_LEAVE;
            h.round = round;
            if ((s = weft_group_post(g, r, &h, NULL, 0)) < 0) return s;
            p->told = s == WEFT_OK;
            due += s != WEFT_OK;
        }
        if (i < g->members && g->member[i] == r) i++; /* else it has left, too */
    }
    if (due || !weft_group_flushed(g)) return weft_group_deadline(g, WEFT_NO_RANK);
    weft_group_close(g);
    return WEFT_OK;
}

#endif /* WEFT_GROUP_IMPLEMENTATION */

/* ---- src/weft/collective.h: implementation --------------------------------------------------- */
#ifndef WEFT_COLLECTIVE_IMPLEMENTATION
#define WEFT_COLLECTIVE_IMPLEMENTATION

/* ---- Agreement of a view: settings, and the fate of a round ---- */

enum { WEFT_SYNC_FIELDS = 24, WEFT_SYNC_STATE = 4 };
/* The last WEFT_SYNC_STATE fields are state; the ones before are settings that must agree. */
enum { WEFT_SYNC_COMMITTED = 20, WEFT_SYNC_HAVE = 21, WEFT_SYNC_FRESH = 22, WEFT_SYNC_HASH = 23 };

typedef struct weft_sync {
    const char *const *name; /* of the settings; NULL ends them */
    uint64_t mine[WEFT_SYNC_FIELDS];
    unsigned char wire[WEFT_SYNC_FIELDS * 8]; /* mine, little-endian */
    unsigned char *all;                       /* a row of the same a rank */
    uint64_t committed;                       /* after the sync: the last round that is over for any member */
    uint64_t committed_id;                    /* and which one it was */
} weft_sync;

/* A round that is formed again after a regroup keeps its number but is another round: its identity is the number and
 * the epoch in which it was formed. */
enum { WEFT_ROUND_BITS = 48 };
#define WEFT_ROUND_MASK (((uint64_t)1 << WEFT_ROUND_BITS) - 1)

WEFT_FN uint64_t weft_round_id(uint64_t round, uint32_t epoch) {
    return round | (uint64_t)(epoch & 0xFFFFu) << WEFT_ROUND_BITS;
}

WEFT_FN void weft_sync_layout(weft_layout *l, uint32_t size, unsigned char **all) {
    *all = (unsigned char *)weft_layout_take(l, WEFT_TEXT("fingerprints, one a worker"), size, WEFT_SYNC_FIELDS * 8);
}

WEFT_FN uint64_t weft_sync_field(const weft_sync *s, uint32_t rank, int field) {
    return weft_get64(s->all + ((size_t)rank * WEFT_SYNC_FIELDS + (size_t)field) * 8);
}

WEFT_FN void weft_sync_begin(weft_sync *s, weft_group *g) {
    uint32_t i;
    int f;
    for (f = 0; f < WEFT_SYNC_FIELDS; f++) weft_put64(s->wire + 8 * f, s->mine[f]);
    memcpy(s->all + (size_t)g->net->rank * sizeof s->wire, s->wire, sizeof s->wire);
    g->phase = WEFT_TEXT("agreeing on a view");
    weft_group_begin(g, WEFT_KIND_SYNC, 0, 0);
    for (i = 0; i < g->members; i++) {
        uint32_t rank = g->member[i];
        weft_range out = weft_range_raw(s->wire, sizeof s->wire, 1);
        weft_range in = weft_range_raw(s->all + (size_t)rank * sizeof s->wire, sizeof s->wire, 1);
        if (rank != g->net->rank) weft_group_flow(g, rank, &out, &in, 0);
    }
}

/* WEFT_OK when all members have agreed; a difference is named with both values. */
WEFT_FN weft_status weft_sync_poll(weft_sync *s, weft_group *g) {
    weft_status status = weft_group_poll(g);
    uint32_t i;
    int f;
    if (status) return status;
    s->committed = s->committed_id = 0;
    for (i = 0; i < g->members; i++) {
        uint32_t rank = g->member[i];
        for (f = 0; s->name[f]; f++)
            if (weft_sync_field(s, rank, f) != s->mine[f])
                return weft_group_break(g, WEFT_ERR_MISMATCH, rank, s->name[f], s->mine[f],
                                        weft_sync_field(s, rank, f));
        if ((weft_sync_field(s, rank, WEFT_SYNC_COMMITTED) & WEFT_ROUND_MASK) > s->committed) {
            s->committed_id = weft_sync_field(s, rank, WEFT_SYNC_COMMITTED);
            s->committed = s->committed_id & WEFT_ROUND_MASK;
        }
    }
    weft_group_trace(g, WEFT_EVENT_VIEW, WEFT_NO_RANK, s->committed, g->epoch);
    return WEFT_OK;
}

/* May this worker commit the round that it was in? Only if somebody has: then everybody had said HAVE, so all hold the
 * data. A later round of the same epoch is proof too: it does not begin before this one is over. */
WEFT_FN int weft_sync_commits(const weft_sync *s, uint64_t have) {
    return have != 0 && have >> WEFT_ROUND_BITS == s->committed_id >> WEFT_ROUND_BITS &&
           (have & WEFT_ROUND_MASK) <= s->committed;
}

/* Shapes and types of tensors in one number, for the fingerprint. */
WEFT_FN uint64_t weft_shape_hash(const weft_tensors *t) {
    uint64_t h = 0x9E3779B97F4A7C15u;
    size_t i;
    for (i = 0; i < t->count; i++) {
        h = (h ^ (uint64_t)t->tensor[i].count) * 0x100000001B3u;
        h = (h ^ h >> 29 ^ (uint64_t)t->tensor[i].dtype) * 0xBF58476D1CE4E5B9u;
    }
    return h ^ h >> 32;
}

/* Hash of all elements of all tensors, in the host's memory or (mirror not NULL) at their positions in a mirror: the
 * same however they are stored or split. */
WEFT_FN uint64_t weft_tensors_hash(const weft_kernels *k, const weft_pool *pool, const weft_tensors *t,
                                   const unsigned char *mirror, const size_t *position) {
    uint64_t h = 0, first = 0;
    size_t i;
    for (i = 0; i < t->count; i++) {
        const void *x = mirror ? mirror + position[i] : (const unsigned char *)t->tensor[i].data;
        h += weft_run_hash(k, pool, t->tensor[i].dtype, t->tensor[i].count, first, x);
        first += t->tensor[i].count;
    }
    return h;
}

/* ---- Small things, from everybody to everybody ---- */

/* `each_bytes` from every participant into its row of `all` (one row a rank); a barrier if that is 0. */
WEFT_FN void weft_gather_begin(weft_group *g, const uint32_t *who, uint32_t count, uint64_t round, uint32_t step,
                               void *all, size_t each_bytes, size_t element, uint64_t arg) {
    unsigned char *rows = (unsigned char *)all;
    uint32_t i;
    weft_group_begin(g, WEFT_KIND_EXCHANGE, round, step);
    for (i = 0; i < count; i++) {
        weft_range out = weft_range_raw(rows ? rows + g->net->rank * each_bytes : NULL, each_bytes, element);
        weft_range in = weft_range_raw(rows ? rows + who[i] * each_bytes : NULL, each_bytes, element);
        if (who[i] != g->net->rank) weft_group_flow(g, who[i], &out, &in, arg);
    }
}

/* ---- Sums of large things ---- */

typedef enum weft_operation {
    WEFT_OP_ALL_REDUCE = 0,
    WEFT_OP_REDUCE_SCATTER = 1, /* the result is this participant's shard only */
    WEFT_OP_ALL_GATHER = 2,     /* everyone's own shard to all */
    WEFT_OP_BROADCAST = 3,
    WEFT_OP_BARRIER = 4
} weft_operation;

typedef struct weft_reduce {
    weft_group *g;
    const weft_kernels *kernels;
    const weft_pool *pool;
    weft_map map;
    weft_algorithm algorithm; /* resolved */
    int host;                 /* use the transport's all_reduce */
    unsigned char *mirror, *spare;
    /* of the operation under way */
    weft_operation operation;
    const weft_tensor *source;
    const double *weight;     /* [rank * groups + group]; NULL: all 1 */
    const uint32_t *group_of; /* of a tensor; NULL: 0 */
    size_t groups;
    uint32_t *who, count, here, root; /* participants, ascending ranks */
    uint64_t round;
    uint32_t first_step, stage;
    size_t unit;             /* bytes of a shard */
    size_t chunk;            /* the least of a chunk; a multiple of WEFT_ALIGNMENT, the same on all workers */
    size_t span;             /* bytes of a chunk */
    uint32_t chunks, summed; /* of a shard; of the own one, so far. Not by chunks at all: 0 */
    uint32_t bad;            /* lowest rank with a non-finite contribution, plus 1; 0: none */
    uint64_t nonfinite;      /* non-finite elements seen in results here */
    uint64_t unsound;        /* of them, in chunks of sums that came from others */
    unsigned char *result;   /* a mirror, when done */
    const void **x;          /* scratch: one a participant */
    double *w;
    weft_request host_request;
    int host_active;
} weft_reduce;

WEFT_FN weft_algorithm weft_algorithm_resolve(weft_algorithm a, size_t bytes) {
    if (a != WEFT_ALGORITHM_AUTO) return a;
    return bytes <= WEFT_GATHER_BYTES ? WEFT_ALGORITHM_GATHER : WEFT_ALGORITHM_DIRECT;
}

/* Bytes of one mirror with room for the working copies of the algorithm. */
WEFT_FN size_t weft_mirror_bytes(weft_algorithm a, size_t bytes, uint32_t size, int *ok) {
    size_t total = 0;
    if (a == WEFT_ALGORITHM_GATHER) {
        if (!weft_mul_size(bytes, size, &total)) *ok = 0;
    } else if (!weft_add_size(bytes, (size_t)size * WEFT_ALIGNMENT, &total)) {
        *ok = 0;
    }
    return total;
}

WEFT_FN void weft_reduce_layout(weft_layout *l, weft_reduce *r, const weft_tensors *t, uint32_t size,
                                weft_algorithm a) {
    int ok = 1;
    size_t bytes = weft_map_measure(t, &ok);
    r->algorithm = weft_algorithm_resolve(a, bytes);
    r->chunk = WEFT_CHUNK_BYTES;
    r->map.position =
        (size_t *)weft_layout_take(l, WEFT_TEXT("positions of the tensors"), t->count + 1, sizeof(size_t));
    r->mirror = (unsigned char *)weft_layout_data(l, WEFT_TEXT("reduction"),
                                                  weft_mirror_bytes(r->algorithm, bytes, size, &ok), 1);
    r->spare = (unsigned char *)weft_layout_data(l, WEFT_TEXT("reduction, a partner's copy (doubling)"),
                                                 r->algorithm == WEFT_ALGORITHM_DOUBLING ? bytes : 0, 1);
    r->who = (uint32_t *)weft_layout_take(l, WEFT_TEXT("participants"), size, sizeof(uint32_t));
    r->x = (const void **)weft_layout_take(l, WEFT_TEXT("sources of a sum"), size, sizeof(void *));
    r->w = (double *)weft_layout_take(l, WEFT_TEXT("weights of a sum"), size, sizeof(double));
    if (!ok) l->overflow = 1;
}

WEFT_FN double weft_reduce_weight(const weft_reduce *r, uint32_t rank, size_t tensor) {
    if (!r->weight) return 1.0;
    return r->weight[(size_t)rank * r->groups + (r->group_of ? r->group_of[tensor] : 0)];
}

/* The blame for a sum that is not finite although all contributions are: it has overflowed. Higher than that of any
 * rank. */
WEFT_FN uint32_t weft_nobody(const weft_reduce *r) {
    return r->g->net->size + 1;
}

WEFT_FN void weft_reduce_blame(weft_reduce *r, uint32_t rank_plus_1) {
    if (rank_plus_1 && (!r->bad || rank_plus_1 < r->bad)) r->bad = rank_plus_1;
}

/* What stands in the exchange's argument of the neighbours: the lowest non-finite rank that they know of. */
WEFT_FN weft_status weft_reduce_hear(weft_reduce *r) {
    uint32_t i;
    for (i = 0; i < r->count; i++) {
        uint64_t heard = r->who[i] == r->g->net->rank ? 0 : r->g->peer[r->who[i]].in_arg;
        if (heard > weft_nobody(r))
            return weft_group_break(r->g, WEFT_ERR_PROTOCOL, r->who[i], WEFT_TEXT("header.argument"), weft_nobody(r),
                                    heard);
        weft_reduce_blame(r, (uint32_t)heard);
    }
    return WEFT_OK;
}

/* Adds the participants' pieces of [lo, hi) in rank order into the mirror at `out`. Participant i's piece is in the
 * host's tensors (i == here) or stands at slots + i * stride. */
WEFT_FN void weft_reduce_pieces(weft_reduce *r, size_t lo, size_t hi, unsigned char *slots, size_t stride,
                                unsigned char *out) {
    weft_range at = weft_range_map(&r->map, r->source, NULL, 0, lo, hi);
    /* a chunk goes out to the others next: it stays in the cache */
    const weft_kernels *k = r->chunks > 1 ? r->kernels - r->kernels->stream : r->kernels;
    unsigned char *own;
    size_t each, which, bytes;
    uint32_t i;
    while ((bytes = weft_range_next(&at, SIZE_MAX, &own, &each, &which)) != 0) {
        size_t past = at.at - bytes - lo, n = bytes / each;
        weft_dtype t = r->map.tensor[which].dtype;
        uint64_t nonfinite;
        for (i = 0; i < r->count; i++) {
            r->x[i] = i == r->here ? own : slots + i * stride + past;
            r->w[i] = weft_reduce_weight(r, r->who[i], which);
        }
        nonfinite = weft_run_weighted_sum(k, r->pool, t, n, r->count, r->w, r->x, out + past);
        r->nonfinite += nonfinite;
        if (nonfinite) weft_reduce_blame(r, weft_nobody(r));
        for (i = 0; nonfinite && i < r->count; i++)
            if (r->w[i] != 0.0 && weft_run_count_nonfinite(r->kernels, r->pool, t, n, r->x[i]))
                weft_reduce_blame(r, r->who[i] + 1);
    }
}

/* mirror[lo, hi) = (with_partial: mirror +) weight * own, for the ring and the first step of doubling. */
WEFT_FN void weft_reduce_own(weft_reduce *r, size_t lo, size_t hi, int with_partial) {
    weft_range at = weft_range_map(&r->map, r->source, NULL, 0, lo, hi);
    unsigned char *own;
    size_t each, which, bytes;
    while ((bytes = weft_range_next(&at, SIZE_MAX, &own, &each, &which)) != 0) {
        unsigned char *out = r->mirror + (at.at - bytes);
        weft_dtype t = r->map.tensor[which].dtype;
        const void *x[2];
        double w[2];
        uint64_t nonfinite;
        x[0] = out;
        w[0] = 1.0;
        x[with_partial] = own;
        w[with_partial] = weft_reduce_weight(r, r->g->net->rank, which);
        nonfinite = weft_run_weighted_sum(r->kernels, r->pool, t, bytes / each, with_partial ? 2 : 1, w, x, out);
        r->nonfinite += nonfinite;
        if (nonfinite) weft_reduce_blame(r, weft_nobody(r));
        if (nonfinite && w[with_partial] != 0.0 && weft_run_count_nonfinite(r->kernels, r->pool, t, bytes / each, own))
            weft_reduce_blame(r, r->g->net->rank + 1);
    }
}

/* mirror = mirror + spare over everything. */
WEFT_FN void weft_reduce_add_spare(weft_reduce *r) {
    weft_range at = weft_range_map(&r->map, NULL, r->mirror, 0, 0, weft_map_bytes(&r->map));
    unsigned char *p;
    size_t each, which, bytes;
    while ((bytes = weft_range_next(&at, SIZE_MAX, &p, &each, &which)) != 0) {
        const void *x[2];
        double w[2];
        uint64_t nonfinite;
        x[0] = p;
        x[1] = r->spare + (at.at - bytes);
        w[0] = w[1] = 1.0;
        nonfinite = weft_run_weighted_sum(r->kernels, r->pool, r->map.tensor[which].dtype, bytes / each, 2, w, x, p);
        r->nonfinite += nonfinite;
        if (nonfinite) weft_reduce_blame(r, weft_nobody(r));
    }
}

WEFT_FN WEFT_NOINLINE size_t weft_shard_lo(const weft_reduce *r, uint32_t shard) {
    size_t lo = shard * r->unit, bytes = weft_map_bytes(&r->map);
    return lo < bytes ? lo : bytes;
}

/* A flow between the mirrors, or from the host's tensors, of one shard range. */
WEFT_FN WEFT_NOINLINE weft_range weft_reduce_mirror(weft_reduce *r, unsigned char *base, size_t lo, size_t hi) {
    return weft_range_map(&r->map, NULL, base, 0, lo, hi);
}

WEFT_FN uint32_t weft_power_below(uint32_t n) {
    uint32_t p = 1;
    while (p <= n / 2) p *= 2;
    return p;
}

WEFT_FN uint32_t weft_log2(uint32_t power) {
    uint32_t n = 0;
    while (power > 1) {
        power /= 2;
        n++;
    }
    return n;
}

/* Each algorithm is a pair: `send` sets up the exchange of a stage (0: there is none left), `done` computes on what
 * it brought. */

/* Where chunk c of a shard begins, or would: at its end. */
WEFT_FN WEFT_NOINLINE size_t weft_chunk_lo(const weft_reduce *r, uint32_t shard, uint32_t c) {
    size_t lo = weft_shard_lo(r, shard) + c * r->span, end = weft_shard_lo(r, shard + 1);
    return lo < end ? lo : end;
}

/* Adds up the next chunk of the own shard, if it has come. */
WEFT_FN WEFT_NOINLINE int weft_direct_sum(weft_reduce *r) {
    size_t lo = weft_chunk_lo(r, r->here, r->summed);
    unsigned char *slots = r->mirror + (lo - weft_shard_lo(r, r->here));
    if (r->summed == r->chunks || r->summed >= r->stage) return 0;
    weft_reduce_pieces(r, lo, weft_chunk_lo(r, r->here, ++r->summed), slots, r->unit, slots + r->here * r->unit);
    return 1;
}

/* Stage t moves chunk t of everybody's numbers and chunk t - 2 of the sums, while chunk t - 1 is added up. They stand
 * in different parts of the mirror. */
WEFT_FN int weft_direct_send(weft_reduce *r) {
    size_t my_lo = weft_shard_lo(r, r->here);
    uint32_t i, scatter, gather;                               /* the chunks; none: r->chunks */
    if (r->stage == 0 && r->operation == WEFT_OP_ALL_GATHER) { /* the own shard stands in the host's tensors */
        weft_reduce_own(r, my_lo, weft_shard_lo(r, r->here + 1), 0);
        r->summed = r->chunks;
    }
    for (;; r->stage++) {
        scatter = r->operation != WEFT_OP_ALL_GATHER ? r->stage : r->chunks;
        gather = r->operation != WEFT_OP_REDUCE_SCATTER && r->stage >= 2 ? r->stage - 2 : r->chunks;
        if (scatter < r->chunks || gather < r->chunks) break;
        if (r->stage > r->chunks) return 0;
        weft_direct_sum(r); /* with nothing to do beside it */
    }
    weft_group_begin(r->g, WEFT_KIND_EXCHANGE, r->round, r->first_step + (r->chunks > 1 ? r->stage : r->stage / 2));
    for (i = 0; i < r->count; i++) {
        weft_range out =
            weft_range_map(&r->map, r->source, NULL, 0, weft_chunk_lo(r, i, scatter), weft_chunk_lo(r, i, scatter + 1));
        weft_range in = weft_range_map(&r->map, NULL, r->mirror + i * r->unit, my_lo,
                                       weft_chunk_lo(r, r->here, scatter), weft_chunk_lo(r, r->here, scatter + 1));
        out.then = in.then = r->mirror;
        out.then_lo = weft_chunk_lo(r, r->here, gather);
        out.then_hi = weft_chunk_lo(r, r->here, gather + 1);
        in.then_lo = weft_chunk_lo(r, i, gather);
        in.then_hi = weft_chunk_lo(r, i, gather + 1);
        if (i != r->here) weft_group_flow(r->g, r->who[i], &out, &in, r->bad);
    }
    return 1;
}

/* Non-finite elements of a mirror's [lo, hi). */
WEFT_FN WEFT_NOINLINE uint64_t weft_mirror_count_nonfinite(const weft_reduce *r, unsigned char *mirror, size_t lo,
                                                           size_t hi) {
    weft_range at = weft_range_map(&r->map, NULL, mirror, 0, lo, hi);
    unsigned char *p;
    size_t each, which, bytes;
    uint64_t n = 0;
    while ((bytes = weft_range_next(&at, SIZE_MAX, &p, &each, &which)) != 0)
        n += weft_run_count_nonfinite(r->kernels, r->pool, r->map.tensor[which].dtype, bytes / each, p);
    return n;
}

/* Sums that have come are looked at while they are in the cache. */
WEFT_FN void weft_direct_done(weft_reduce *r) {
    uint32_t i, gather = r->stage < 2 ? r->chunks : r->stage - 2;
    weft_direct_sum(r);
    if (r->operation != WEFT_OP_ALL_REDUCE || gather >= r->chunks) return;
    for (i = 0; i < r->count; i++)
        if (i != r->here)
            r->unsound +=
                weft_mirror_count_nonfinite(r, r->mirror, weft_chunk_lo(r, i, gather), weft_chunk_lo(r, i, gather + 1));
}

WEFT_FN int weft_gather_send(weft_reduce *r) {
    size_t all = weft_map_bytes(&r->map);
    uint32_t i;
    if (r->stage > 0) return 0;
    weft_group_begin(r->g, WEFT_KIND_EXCHANGE, r->round, r->first_step);
    for (i = 0; i < r->count; i++) {
        weft_range out = weft_range_map(&r->map, r->source, NULL, 0, 0, all);
        weft_range in = weft_reduce_mirror(r, r->mirror + i * all, 0, all);
        if (i != r->here) weft_group_flow(r->g, r->who[i], &out, &in, 0);
    }
    return 1;
}

WEFT_FN void weft_gather_done(weft_reduce *r) {
    size_t all = weft_map_bytes(&r->map);
    r->result = r->mirror + r->here * all;
    weft_reduce_pieces(r, 0, all, r->mirror, all, r->result);
}

WEFT_FN int weft_ring_send(weft_reduce *r) {
    uint32_t n = r->count, t = r->stage, from, to;
    weft_range out, in;
    if (t >= 2 * (n - 1)) return 0;
    /* reducing: stage t hands on the shard here - 1 - t; gathering: stage n - 1 + t the shard here - t */
    from = (r->here + 2 * n - (t < n - 1 ? 1 + t : t - (n - 1))) % n;
    to = (from + n - 1) % n;
    if (t == 0) weft_reduce_own(r, weft_shard_lo(r, from), weft_shard_lo(r, from + 1), 0);
    weft_group_begin(r->g, WEFT_KIND_EXCHANGE, r->round, r->first_step + t);
    out = weft_reduce_mirror(r, r->mirror, weft_shard_lo(r, from), weft_shard_lo(r, from + 1));
    in = weft_reduce_mirror(r, r->mirror, weft_shard_lo(r, to), weft_shard_lo(r, to + 1));
    weft_group_flow(r->g, r->who[(r->here + 1) % n], &out, NULL, r->bad);
    weft_group_flow(r->g, r->who[(r->here + n - 1) % n], NULL, &in, 0);
    return 1;
}

WEFT_FN void weft_ring_done(weft_reduce *r) {
    uint32_t n = r->count, shard = (r->here + 2 * n - 2 - r->stage) % n;
    if (r->stage < n - 1) weft_reduce_own(r, weft_shard_lo(r, shard), weft_shard_lo(r, shard + 1), 1);
}

/* Stages: 0 folds in the ranks beyond the power of two, 1 .. log2 the partners, then back to those beyond. */
WEFT_FN int weft_doubling_send(weft_reduce *r) {
    uint32_t p = weft_power_below(r->count), rounds = weft_log2(p), extra = r->count - p, to = r->count,
             from = r->count;
    size_t all = weft_map_bytes(&r->map);
    weft_range out = weft_reduce_mirror(r, r->mirror, 0, all), in;
    if (r->stage > rounds + 1) return 0;
    if (r->stage == 0) {
        weft_reduce_own(r, 0, all, 0);
        if (r->here >= p) to = r->here - p;
        if (r->here < extra) from = r->here + p;
    } else if (r->stage <= rounds) {
        if (r->here < p) to = from = r->here ^ (1u << (r->stage - 1));
    } else {
        if (r->here < extra) to = r->here + p;
        if (r->here >= p) from = r->here - p;
    }
    in = weft_reduce_mirror(r, r->stage > rounds ? r->mirror : r->spare, 0, all);
    weft_group_begin(r->g, WEFT_KIND_EXCHANGE, r->round, r->first_step + r->stage);
    if (to < r->count) weft_group_flow(r->g, r->who[to], &out, NULL, r->bad);
    if (from < r->count) weft_group_flow(r->g, r->who[from], NULL, &in, 0);
    return 1;
}

WEFT_FN void weft_doubling_done(weft_reduce *r) {
    uint32_t p = weft_power_below(r->count), rounds = weft_log2(p);
    int folds = r->stage == 0 && r->here < r->count - p;
    if (folds || (r->stage >= 1 && r->stage <= rounds && r->here < p)) weft_reduce_add_spare(r);
}

WEFT_FN int weft_broadcast_send(weft_reduce *r) {
    size_t all = weft_map_bytes(&r->map);
    weft_range out = weft_range_map(&r->map, r->source, NULL, 0, 0, all);
    weft_range in = weft_reduce_mirror(r, r->mirror, 0, all);
    uint32_t i;
    if (r->stage > 0) return 0;
    weft_group_begin(r->g, WEFT_KIND_EXCHANGE, r->round, r->first_step);
    for (i = 0; i < r->count; i++) {
        if (i == r->here) continue;
        if (r->here == r->root)
            weft_group_flow(r->g, r->who[i], &out, NULL, 0);
        else if (i == r->root)
            weft_group_flow(r->g, r->who[i], NULL, &in, 0);
    }
    return 1;
}

/* Of the whole result. */
WEFT_FN uint64_t weft_reduce_count_nonfinite(const weft_reduce *r) {
    return r->chunks ? r->unsound : weft_mirror_count_nonfinite(r, r->result, 0, weft_map_bytes(&r->map));
}

WEFT_FN void weft_broadcast_done(weft_reduce *r) {
    if (r->here == r->root)
        weft_reduce_own(r, 0, weft_map_bytes(&r->map), 0);
    else if (weft_reduce_count_nonfinite(r))
        weft_reduce_blame(r, r->who[r->root] + 1);
}

WEFT_FN int weft_reduce_send(weft_reduce *r) {
    if (r->operation == WEFT_OP_BARRIER) return 0;
    if (r->operation == WEFT_OP_BROADCAST) return weft_broadcast_send(r);
    if (r->count == 1) { /* nothing to move: the sum of one */
        weft_reduce_own(r, 0, weft_map_bytes(&r->map), 0);
        return 0;
    }
    if (r->chunks) return weft_direct_send(r);
    if (r->algorithm == WEFT_ALGORITHM_GATHER) return weft_gather_send(r);
    return r->algorithm == WEFT_ALGORITHM_RING ? weft_ring_send(r) : weft_doubling_send(r);
}

WEFT_FN void weft_reduce_done(weft_reduce *r) {
    if (r->operation == WEFT_OP_BROADCAST)
        weft_broadcast_done(r);
    else if (r->chunks)
        weft_direct_done(r);
    else if (r->algorithm == WEFT_ALGORITHM_GATHER)
        weft_gather_done(r);
    else if (r->algorithm == WEFT_ALGORITHM_RING)
        weft_ring_done(r);
    else
        weft_doubling_done(r);
}

/* Does the host's own all_reduce do this one? Only while all ranks of the transport take part: it knows no smaller
 * views. */
WEFT_FN int weft_reduce_by_host(const weft_reduce *r) {
    return r->host && r->g->net->all_reduce && r->operation == WEFT_OP_ALL_REDUCE && r->count == r->g->net->size &&
           r->count > 1;
}

/* One call of the host's all_reduce a tensor, from the host's tensors into the mirror. A non-finite result cannot be
 * traced to its rank. */
WEFT_FN weft_status weft_reduce_host_poll(weft_reduce *r) {
    weft_group *g = r->g;
    weft_request *q = &r->host_request;
    weft_status s = WEFT_OK;
    uint64_t bad;
    for (; r->stage < r->map.count; r->stage++) {
        const weft_tensor *t = &r->map.tensor[r->stage];
        unsigned char *out = r->mirror + r->map.position[r->stage];
        if (t->count == 0) continue;
        if (!r->host_active) {
            memset(q, 0, sizeof *q);
            q->bytes = UINT64_MAX;
            s = g->net->all_reduce(g->net->ctx, weft_reduce_weight(r, g->net->rank, r->stage), r->source[r->stage].data,
                                   out, t->count, t->dtype, q);
            if (s == WEFT_OK) g->traffic.payload_sent += t->count * weft_dtype_bytes(t->dtype);
        }
        if (s == WEFT_OK) s = g->net->test(g->net->ctx, q);
        r->host_active = s == WEFT_AGAIN;
        if (r->host_active) return (s = weft_group_pump(g)) < 0 ? s : weft_group_deadline(g, WEFT_NO_RANK);
        if (s < 0) {
            /* whose loss it was is for its link to say */
            weft_status why = s == WEFT_ERR_PEER_LOST ? weft_group_pump(g) : WEFT_OK;
            if (why < 0) return why;
            return weft_group_break(g, s == WEFT_ERR_PEER_LOST ? s : WEFT_ERR_TRANSPORT, WEFT_NO_RANK,
                                    WEFT_TEXT("all_reduce"), 0, weft_status_value(s));
        }
        g->progress = 1;
        bad =
            q->bytes != UINT64_MAX ? q->bytes : weft_run_count_nonfinite(r->kernels, r->pool, t->dtype, t->count, out);
        r->nonfinite += bad;
        if (bad) weft_reduce_blame(r, weft_nobody(r));
    }
    return WEFT_OK;
}

/* Steps that an operation may take. */
WEFT_FN uint32_t weft_reduce_steps(uint32_t size) {
    return 2 * size + WEFT_CHUNKS + 4;
}

/* Begins an operation over `count` participants (ascending ranks, this worker among them). Steps from first_step on
 * are its own. */
WEFT_FN void weft_reduce_begin(weft_reduce *r, weft_operation op, const weft_tensor *source, const uint32_t *who,
                               uint32_t count, uint64_t round, uint32_t first_step) {
    uint32_t i;
    size_t each;
    r->operation = op;
    r->source = source;
    r->count = count;
    for (i = 0; i < count; i++) {
        r->who[i] = who[i];
        if (who[i] == r->g->net->rank) r->here = i;
    }
    each = (weft_map_bytes(&r->map) + count - 1) / count;
    r->unit = (each + WEFT_ALIGNMENT - 1) / WEFT_ALIGNMENT * WEFT_ALIGNMENT;
    for (r->span = op == WEFT_OP_ALL_GATHER ? r->unit : r->chunk; r->span < r->unit / WEFT_CHUNKS; r->span *= 2)
        continue;
    r->chunks = op == WEFT_OP_ALL_REDUCE ? r->algorithm == WEFT_ALGORITHM_DIRECT : op <= WEFT_OP_ALL_GATHER;
    while (r->chunks && r->chunks * r->span < r->unit) r->chunks++;
    r->summed = 0;
    r->round = round;
    r->first_step = first_step;
    r->stage = 0;
    r->bad = 0;
    r->nonfinite = r->unsound = 0;
    r->result = r->mirror; /* but where all is gathered */
    r->g->exchanging = 0;
    WEFT_GPU_SETTLE(r->map); /* what is sent has been written, and what was in the mirror, used */
}

WEFT_FN weft_status weft_reduce_refused(weft_reduce *r) {
    return weft_group_fail(r->g, WEFT_ERR_NONFINITE, r->bad == weft_nobody(r) ? WEFT_NO_RANK : r->bad - 1,
                           r->bad == weft_nobody(r) ? WEFT_TEXT("sum") : WEFT_TEXT("contribution"), 0, r->nonfinite);
}

/* WEFT_OK: r->result holds it. WEFT_ERR_NONFINITE: a sum is not finite; r->bad - 1 is the lowest rank at fault, or
 * r->bad is weft_nobody; the same on all participants, nothing is written but the mirror, and the operation may
 * begin again without that rank. */
WEFT_FN weft_status weft_reduce_poll(weft_reduce *r) {
    weft_status s;
    int by_host = weft_reduce_by_host(r);
    if (by_host) {
        if ((s = weft_reduce_host_poll(r)) != WEFT_OK) return s;
    } else {
        for (;;) {
            if (!r->g->exchanging && !weft_reduce_send(r)) break;
            s = weft_group_poll(r->g);
            if (s == WEFT_AGAIN && weft_direct_sum(r)) s = weft_group_poll(r->g);
            if (s != WEFT_OK || (s = weft_reduce_hear(r)) != WEFT_OK) return s;
            weft_reduce_done(r);
            r->stage++;
        }
    }
    if ((s = WEFT_GPU_BREAKS_GROUP(r->g)) < 0) return s;
    if (!r->bad) {
        /* nobody owned up to it, so it came over the wire; the others may well have sound copies */
        if (!by_host && r->operation == WEFT_OP_ALL_REDUCE && r->algorithm != WEFT_ALGORITHM_GATHER && r->count > 1 &&
            weft_reduce_count_nonfinite(r))
            return weft_group_break(r->g, WEFT_ERR_PROTOCOL, WEFT_NO_RANK, WEFT_TEXT("a result that is not finite"), 0,
                                    1);
        return WEFT_OK;
    }
    return weft_reduce_refused(r);
}

/* Takes back what the transport still holds of the host's all_reduce. */
WEFT_FN void weft_reduce_cancel(weft_reduce *r) {
    if (r->host_active) r->g->net->cancel(r->g->net->ctx, &r->host_request);
    r->host_active = 0;
}

/* tensors[lo, hi) = mirror[lo, hi). */
WEFT_FN void weft_mirror_copy_out(const weft_reduce *r, const unsigned char *mirror, const weft_tensor *to, size_t lo,
                                  size_t hi) {
    weft_range at = weft_range_map(&r->map, to, NULL, 0, lo, hi);
    unsigned char *p;
    size_t each, which, bytes;
    while ((bytes = weft_range_next(&at, SIZE_MAX, &p, &each, &which)) != 0)
        if (each < 4) /* kernels would go through f32 */
            weft_data_copy(WEFT_GPU_IN(r->map), p, mirror + (at.at - bytes), bytes);
        else
            weft_run_copy(r->kernels, r->pool, WEFT_F32, bytes / 4, mirror + (at.at - bytes), p);
}

/* ---- The collective as an object of its own ---- */

enum { WEFT_STEP_HAVE = 1 << 30 }; /* the step of a round in which everyone says that it holds the result */
enum { WEFT_COLLECTIVE_IDLE = 0, WEFT_COLLECTIVE_SYNC = 1, WEFT_COLLECTIVE_RUN = 2, WEFT_COLLECTIVE_HAVE = 3 };

struct weft_collective {
    weft_collective_desc desc;
    weft_group group;
    weft_reduce reduce;
#ifdef WEFT_CUDA
    weft_gpu gpu;
#endif
    weft_sync sync;
    int state, pending;          /* pending: an operation waits for the sync */
    uint64_t committed;          /* operations that are over */
    uint64_t committed_id, have; /* the last of them; the one whose result is here, not yet committed, or 0 */
    weft_operation operation;
    uint32_t root;
};

WEFT_FN const char *const *weft_collective_field_names(void) {
    static const char *const names[] = {"algorithm (collective)", "tensors.count", "tensors (shapes and types)",
                                        "algorithm of the sum", NULL};
    return names;
}

WEFT_FN weft_status weft_collective_check(const weft_collective_desc *d, weft_detail *detail) {
    weft_status s;
    if (!d) return weft_refuse(detail, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc"), 1, 0);
    if (d->struct_size != sizeof *d)
        return weft_refuse(detail, WEFT_ERR_ABI, WEFT_TEXT("desc.struct_size"), sizeof *d, d->struct_size);
    if ((s = weft_transport_check(d->transport, detail)) != WEFT_OK) return s;
    if ((s = weft_tensors_check(&d->tensors, 0, detail)) != WEFT_OK) return s;
    if ((s = WEFT_GPU_CHECK(d, detail)) != WEFT_OK) return s;
    if (d->view && (s = weft_view_check(d->view, d->transport, detail)) != WEFT_OK) return s;
    if (d->channel >= WEFT_CHANNELS)
        return weft_refuse(detail, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.channel"), WEFT_CHANNELS - 1, d->channel);
    if ((uint32_t)d->algorithm > WEFT_ALGORITHM_DOUBLING)
        return weft_refuse(detail, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.algorithm"), WEFT_ALGORITHM_DOUBLING,
                           (uint64_t)d->algorithm);
    if (d->timeout_ns && !d->transport->now)
        return weft_refuse(detail, WEFT_ERR_ARGUMENT, WEFT_TEXT("transport.now (for timeout_ns)"), 1, 0);
    if (!weft_kernels_select(d->isa, 0))
        return weft_refuse(detail, WEFT_ERR_UNSUPPORTED, WEFT_TEXT("desc.isa"), 0, (uint64_t)d->isa);
    return WEFT_OK;
}

WEFT_FN weft_collective *weft_collective_lay_out(weft_layout *l, const weft_collective_desc *d, weft_collective *tmp) {
    weft_collective *c = (weft_collective *)weft_layout_take(l, WEFT_TEXT("collective"), 1, sizeof *c);
    weft_collective *at = c ? c : tmp;
    if (c) memset(c, 0, sizeof *c);
    weft_group_layout(l, d->transport->size, &at->group.peer, &at->group.member);
    weft_sync_layout(l, d->transport->size, &at->sync.all);
    weft_reduce_layout(l, &at->reduce, &d->tensors, d->transport->size, d->algorithm);
    WEFT_GPU_LAYOUT(l, &at->gpu, &d->tensors, &d->tensors, d->transport->size);
    return c;
}

/* Bytes for weft_collective_init; 0 if the descriptor is refused (report->detail says why). */
WEFT_FN size_t weft_collective_memory(const weft_collective_desc *d, weft_memory_report *report) {
    weft_layout l;
    weft_detail detail = weft_detail_none();
    weft_collective tmp;
    size_t total = 0;
    memset(&l, 0, sizeof l);
    memset(&tmp, 0, sizeof tmp);
    if (report) memset(report, 0, sizeof *report);
    l.report = report;
    if (weft_collective_check(d, &detail) == WEFT_OK) {
        WEFT_GPU_LEND(&l, d);
        weft_collective_lay_out(&l, d, &tmp);
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

/* What every object's group starts from. */
WEFT_FN void weft_group_start(weft_group *g, const weft_transport *net, uint32_t channel, const weft_view *view,
                              uint64_t timeout_ns, weft_trace_fn trace, void *trace_ctx) {
    uint32_t i;
    memset(g->peer, 0, net->size * sizeof *g->peer);
    g->net = net;
    g->channel = channel;
    g->timeout_ns = timeout_ns;
    g->trace = trace;
    g->trace_ctx = trace_ctx;
    g->detail = weft_detail_none();
    g->phase = WEFT_TEXT("before first contact");
    if (view) {
        weft_group_set_view(g, view);
        return;
    }
    for (i = 0; i < net->size; i++) {
        g->member[i] = i;
        g->peer[i].member = 1;
    }
    g->members = net->size;
    g->here = net->rank;
}

WEFT_FN weft_status weft_collective_init(weft_collective **out, const weft_collective_desc *d, void *memory,
                                         size_t bytes, weft_detail *detail) {
    weft_layout l;
    weft_collective *c;
    weft_detail why = weft_detail_none();
    weft_detail *say = detail ? detail : &why;
    weft_status s;
    size_t need;
    *say = why;
    if (!out) return weft_refuse(say, WEFT_ERR_ARGUMENT, WEFT_TEXT("out"), 1, 0);
    *out = NULL;
    if ((s = weft_collective_check(d, say)) != WEFT_OK) return s;
    need = weft_collective_memory(d, NULL);
    if (!need) return weft_refuse(say, WEFT_ERR_OVERFLOW, WEFT_TEXT("memory"), SIZE_MAX, 0);
    if (!memory || bytes < need) return weft_refuse(say, WEFT_ERR_MEMORY, WEFT_TEXT("bytes"), need, memory ? bytes : 0);
    if ((s = weft_float_probe(say)) != WEFT_OK) return s;
    memset(&l, 0, sizeof l);
    l.base = weft_align_memory(memory);
    WEFT_GPU_LEND(&l, d);
    c = weft_collective_lay_out(&l, d, NULL);
    c->desc = *d;
    weft_group_start(&c->group, d->transport, d->channel, d->view, d->timeout_ns, d->trace, d->trace_ctx);
    c->reduce.g = &c->group;
    c->reduce.pool = d->pool;
    c->reduce.host = d->host_collectives;
    c->reduce.groups = 1;
    weft_map_init(&c->reduce.map, &d->tensors, c->reduce.map.position);
    c->reduce.kernels = weft_kernels_select(d->isa, weft_map_bytes(&c->reduce.map));
    s = WEFT_GPU_INIT(&c->gpu, d, &l, &c->reduce.kernels, say);
    if (s != WEFT_OK) return s;
    WEFT_GPU_USE(c->group, d, &c->gpu);
    WEFT_GPU_USE(c->reduce.map, d, &c->gpu);
    c->sync.name = weft_collective_field_names();
    c->sync.mine[0] = 0x434F4C4Cu; /* 'COLL' */
    c->sync.mine[1] = d->tensors.count;
    c->sync.mine[2] = weft_shape_hash(&d->tensors);
    c->sync.mine[3] = (uint64_t)c->reduce.algorithm | (uint64_t)(d->host_collectives != 0) << 8;
    *out = c;
    return WEFT_OK;
}

WEFT_FN void weft_collective_sync(weft_collective *c) {
    c->sync.mine[WEFT_SYNC_COMMITTED] = c->committed_id;
    c->sync.mine[WEFT_SYNC_HAVE] =
        c->have; /* stands until a sync is complete: there may be a loss during the next, too */
    c->state = WEFT_COLLECTIVE_SYNC;
    weft_sync_begin(&c->sync, &c->group);
}

WEFT_FN void weft_collective_commit(weft_collective *c) {
    size_t lo = 0, hi = weft_map_bytes(&c->reduce.map);
    if (c->operation == WEFT_OP_REDUCE_SCATTER && c->reduce.count > 1) {
        lo = weft_shard_lo(&c->reduce, c->reduce.here);
        hi = weft_shard_lo(&c->reduce, c->reduce.here + 1);
    }
    if (c->operation != WEFT_OP_BARRIER)
        weft_mirror_copy_out(&c->reduce, c->reduce.result, c->desc.tensors.tensor, lo, hi);
    c->committed++;
    c->committed_id = c->have;
    c->have = 0;
    c->state = WEFT_COLLECTIVE_IDLE;
    c->pending = 0;
    weft_group_trace(&c->group, WEFT_EVENT_COMMITTED, WEFT_NO_RANK, c->committed, c->reduce.count);
}

WEFT_FN void weft_collective_run(weft_collective *c) {
    weft_group *g = &c->group;
    uint32_t i;
    c->state = WEFT_COLLECTIVE_RUN;
    g->phase_round = c->committed + 1;
    g->phase = WEFT_TEXT("collective");
    weft_reduce_begin(&c->reduce, c->operation, c->desc.tensors.tensor, g->member, g->members, c->committed + 1, 1);
    for (i = 0; i < g->members; i++)
        if (g->member[i] == c->root) c->reduce.root = i;
}

/* Goes on; WEFT_OK: nothing is in progress, the tensors are the host's again. After a loss: WEFT_ERR_PEER_LOST until
 * regroup. */
WEFT_FN weft_status weft_collective_poll(weft_collective *c) {
    weft_group *g = &c->group;
    weft_status s;
    if (g->busy) return WEFT_ERR_REENTRY;
    g->busy = 1;
    for (s = WEFT_OK; s == WEFT_OK;) {
        if (c->state == WEFT_COLLECTIVE_IDLE) {
            s = weft_group_pump(g);
            break;
        }
        if (c->state == WEFT_COLLECTIVE_SYNC) {
            if ((s = weft_sync_poll(&c->sync, g)) != WEFT_OK) break;
            if (weft_sync_commits(&c->sync, c->have)) weft_collective_commit(c);
            c->state = WEFT_COLLECTIVE_IDLE;
            c->committed = c->sync.committed;
            c->committed_id = c->sync.committed_id;
            c->have = 0;
            if (!c->pending) break;
            weft_collective_run(c);
        } else if (c->state == WEFT_COLLECTIVE_RUN) {
            s = weft_reduce_poll(&c->reduce);
            if (s != WEFT_OK && s != WEFT_ERR_NONFINITE) break;
            c->state = WEFT_COLLECTIVE_HAVE;
            c->have = s == WEFT_OK ? weft_round_id(c->committed + 1, g->epoch) : 0;
            /* not all operations show everybody what is not finite: HAVE tells */
            weft_gather_begin(g, g->member, g->members, c->committed + 1, WEFT_STEP_HAVE, NULL, 0, 1, c->reduce.bad);
            s = WEFT_OK;
        } else {
            if ((s = weft_group_poll(g)) != WEFT_OK || (s = weft_reduce_hear(&c->reduce)) != WEFT_OK) break;
            if (!c->reduce.bad) {
                weft_collective_commit(c);
                break;
            }
            c->committed++; /* rejected by all, tensors untouched */
            c->committed_id = weft_round_id(c->committed, g->epoch);
            c->have = 0;
            c->state = WEFT_COLLECTIVE_IDLE;
            c->pending = 0;
            s = weft_reduce_refused(&c->reduce);
        }
    }
    if (WEFT_GPU_BREAKS_GROUP(g) < 0) s = g->failed; /* whatever else came of it */
    g->busy = 0;
    return s;
}

/* Begins an operation over the tensors, in place on commit; every member begins the same. `weight`: one a rank of
 * the transport, the same everywhere, read until done, for sums only; NULL: 1. `root`: a rank, for WEFT_OP_BROADCAST.
 * Then poll. */
WEFT_FN weft_status weft_collective_begin(weft_collective *c, weft_operation op, const double *weight, uint32_t root) {
    weft_group *g = &c->group;
    if (g->busy) return WEFT_ERR_REENTRY;
    if (g->failed) return weft_group_pump(g);
    if (c->state != WEFT_COLLECTIVE_IDLE)
        return weft_group_fail(g, WEFT_ERR_ORDER, WEFT_NO_RANK, WEFT_TEXT("state"), WEFT_COLLECTIVE_IDLE,
                               (uint64_t)c->state);
    if ((uint32_t)op > WEFT_OP_BARRIER)
        return weft_group_fail(g, WEFT_ERR_ARGUMENT, WEFT_NO_RANK, WEFT_TEXT("operation"), WEFT_OP_BARRIER,
                               (uint64_t)op);
    if (op == WEFT_OP_BROADCAST && (root >= g->net->size || !g->peer[root].member))
        return weft_group_fail(g, WEFT_ERR_ARGUMENT, root, WEFT_TEXT("root (not a member)"), g->net->size - 1, root);
    if (weight && op != WEFT_OP_ALL_REDUCE && op != WEFT_OP_REDUCE_SCATTER)
        return weft_group_fail(g, WEFT_ERR_ARGUMENT, WEFT_NO_RANK, WEFT_TEXT("weight (only for sums)"), 0, 1);
    c->operation = op;
    c->root = root;
    c->reduce.weight = weight;
    c->pending = 1;
    if (g->synced)
        weft_collective_run(c);
    else
        weft_collective_sync(c);
    return weft_collective_poll(c);
}

/* The new view after a loss (or a return): settles the operation in progress; then poll. */
WEFT_FN weft_status weft_collective_regroup(weft_collective *c, const weft_view *view) {
    weft_group *g = &c->group;
    weft_status s;
    if (g->busy) return WEFT_ERR_REENTRY;
    g->detail = weft_detail_none();
    if ((s = weft_group_check_view(g, view)) != WEFT_OK) return s;
    weft_reduce_cancel(&c->reduce);
    weft_group_set_view(g, view);
    c->pending = 0; /* an operation cut short is abandoned unless somebody has committed it */
    weft_collective_sync(c);
    return weft_collective_poll(c);
}

/* The host has learnt that `rank` is gone, or that its link is usable again (a regroup may then name it). */
WEFT_FN weft_status weft_collective_peer_lost(weft_collective *c, uint32_t rank) {
    if (c->group.busy) return WEFT_ERR_REENTRY;
    if (rank >= c->group.net->size || rank == c->group.net->rank) return WEFT_ERR_ARGUMENT;
    weft_group_lose(&c->group, rank);
    return WEFT_OK;
}

WEFT_FN weft_status weft_collective_peer_up(weft_collective *c, uint32_t rank) {
    if (c->group.busy) return WEFT_ERR_REENTRY;
    if (rank >= c->group.net->size || rank == c->group.net->rank) return WEFT_ERR_ARGUMENT;
    c->group.peer[rank].lost = c->group.peer[rank].left = 0;
    return WEFT_OK;
}

WEFT_FN const weft_detail *weft_collective_detail(const weft_collective *c) {
    return &c->group.detail;
}
WEFT_FN const weft_traffic *weft_collective_traffic(const weft_collective *c) {
    return &c->group.traffic;
}

/* The channel may be used again after a barrier of the host's own behind every worker's close. */
WEFT_FN void weft_collective_close(weft_collective *c) {
    if (c->group.busy) return;
    weft_reduce_cancel(&c->reduce);
    weft_group_close(&c->group);
}

#endif /* WEFT_COLLECTIVE_IMPLEMENTATION */

/* ---- src/weft/state.h: implementation -------------------------------------------------------- */
#ifndef WEFT_STATE_IMPLEMENTATION
#define WEFT_STATE_IMPLEMENTATION

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

#endif /* WEFT_STATE_IMPLEMENTATION */

/* ---- src/subspace.h: implementation ---------------------------------------------------------- */

/* States. "In a round" is everything from SUBSPACE_MEET to SUBSPACE_HAVE. */
enum {
    SUBSPACE_IDLE = 0,
    SUBSPACE_SYNC,    /* agreeing on a view */
    SUBSPACE_MEET,    /* who takes part, with how many samples */
    SUBSPACE_SCATTER, /* shards of the gradients, chunk by chunk, as they are submitted */
    SUBSPACE_NUMBERS, /* everyone's part of the dots and squared norms */
    SUBSPACE_GATHER,  /* shards of the aggregate */
    SUBSPACE_HAVE,    /* everyone tells that it holds the aggregate */
    SUBSPACE_COPIED,  /* with shared memory: the round is committed; everyone tells that it has taken its copy */
    SUBSPACE_LEAVING,
    SUBSPACE_LEFT,
    SUBSPACE_CLOSED
};

enum { SUBSPACE_THEN_IDLE = 0, SUBSPACE_THEN_ROUND, SUBSPACE_THEN_LEAVE };
enum { SUBSPACE_SYNC_FRESH = 1 };
#define SUBSPACE_BLOCK ((size_t)1024) /* columns whose sums over the workers stay in the first-level cache */
#define SUBSPACE_PIECE_BLOCKS ((size_t)16)
#define SUBSPACE_WAVE_BLOCKS ((size_t)256)
#define SUBSPACE_CHUNK ((size_t)4 << 20) /* bytes of the gradients that are exchanged at a time */
#define SUBSPACE_MAGIC 0x73756273u       /* "subs" */
enum { SUBSPACE_STEP_COPIED = WEFT_STEP_HAVE + 1 };

/* A part of what was submitted at once. Shard i of it is [lo + i unit, lo + (i + 1) unit), cut off at hi. */
typedef struct subspace_chunk {
    size_t lo, hi;       /* positions in the map of the gradients */
    size_t slot;         /* where it has its room in the mirror */
    size_t tensor;       /* in place: the one that it is of */
    size_t unit;         /* bytes of a shard */
    uint64_t submission; /* for comparison: the range that was submitted */
} subspace_chunk;

struct subspace {
    uint32_t magic;
    subspace_desc desc;   /* effective */
    weft_transport alone; /* without a transport: a team of one */
    weft_group group;
    weft_sync sync;
    weft_map map;
    const weft_wide_kernels *wide;
    const weft_kernels *kernels, *mixing; /* mixing: for the pass that writes the aggregate */
#ifdef WEFT_CUDA
    weft_gpu gpu;
    weft_slot *gpu_numbers, *gpu_row; /* of a run, one row a participant: on the device, and here */
#endif
    int joined, cut; /* has been in an agreed view; a new view has cut a round short */
    int wanting;     /* a round was abandoned: its gradients must be submitted again */
    int shared;      /* over the transport by way of shared memory */
    int moving;      /* in place by way of messages: others' pieces stand in the gradients */
    int lost;        /* the gradients are in pieces */
    int state, then;
    uint64_t round, settled, have; /* as in the sync: last one over, its id, id of the one whose result is here */
    uint64_t averaged;             /* id of the last one committed: the average over steps is of that moment */
    uint32_t rows;                 /* workers that there is room for */
    size_t groups;
    uint32_t *group_of; /* NULL: one group */
    /* the round under way */
    uint32_t *who, count, self; /* participants, ascending ranks; this worker's place among them */
    uint32_t *place;            /* of those who count in a group, among the participants */
    unsigned char *excluded;    /* [group * rows + rank]: its gradient is not finite */
    unsigned char *submitted;   /* a tensor */
    size_t waiting;             /* tensors that are not submitted yet */
    subspace_chunk *chunk;
    uint32_t chunks, begun, summed, mixed, gathered; /* so many of them */
    uint32_t step;                                   /* exchanges of this round so far */
    uint32_t attempts;                               /* of taking the numbers */
    int in_flight;
    unsigned char *mirror;
    size_t bounce;           /* moving: bytes of the room in which a chunk arrives; behind it: what overflows */
    subspace **theirs;       /* shared: a rank: its object */
    const weft_tensors *set; /* of subspace_combine: everyone's gradients; NULL: over the transport */
    const void **x;          /* a participant's piece */
    double *factor;          /* a participant: what its piece is multiplied by */
    double *samples, own_samples;
    double *numbers; /* a row a rank: dots then squares, of all participants, group by group */
    double *total;   /* one such row: their sums */
    double *alpha, *weight, *coefficient, *norm;   /* [group * rows + rank] */
    double *scale;                                 /* a group */
    unsigned char *alone_in;                       /* a group: one gradient is left, and is to come out as it went in */
    double *slots, *new_slots;                     /* [group * rows + k]: averages of the sorted alphas */
    uint32_t *slot_count, *order;                  /* a group: how many slots there are; scratch */
    double *room;                                  /* what the blocks of a wave yield */
    uint64_t nonfinite;                            /* elements of the aggregate, here */
    uint64_t zero_sums, scale_fallbacks, restarts; /* of this round, counted on commit */
    subspace_stats_t stats;
};

/* ---- Descriptor ---- */

WEFT_FN weft_status subspace_enum(uint64_t v, uint64_t most, const char *field, weft_detail *d) {
    return v <= most ? WEFT_OK : weft_refuse(d, WEFT_ERR_ARGUMENT, field, most, v);
}

/* Checks everything, and fills in the defaults. */
WEFT_FN weft_status subspace_check(const subspace_desc *in, size_t desc_size, uint32_t abi, subspace_desc *out,
                                   weft_detail *d) {
    weft_status s;
    size_t i;
    if (!in) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc"), 1, 0);
    if (abi != WEFT_ABI) return weft_refuse(d, WEFT_ERR_ABI, WEFT_TEXT("header version"), WEFT_ABI, abi);
    if (desc_size != sizeof *in)
        return weft_refuse(d, WEFT_ERR_ABI, WEFT_TEXT("sizeof(subspace_desc)"), sizeof *in, desc_size);
    if (in->struct_size != sizeof *in)
        return weft_refuse(d, WEFT_ERR_ABI, WEFT_TEXT("desc.struct_size"), sizeof *in, in->struct_size);
    *out = *in;
    if (!in->transport && (!in->here || in->view))
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.transport (or desc.here, no view)"), 1, 0);
    if (in->transport && (s = weft_transport_check(in->transport, d)) != WEFT_OK) return s;
    if ((s = weft_tensors_check(&in->gradients, 0, d)) != WEFT_OK) return s;
    if ((s = WEFT_GPU_CHECK(in, d)) != WEFT_OK) return s;
    if (in->gradients.count >= UINT32_MAX)
        return weft_refuse(d, WEFT_ERR_OVERFLOW, WEFT_TEXT("gradients.count"), UINT32_MAX - 1, in->gradients.count);
    if (in->view && (s = weft_view_check(in->view, in->transport, d)) != WEFT_OK) return s;
    if (in->channel >= WEFT_CHANNELS)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.channel"), WEFT_CHANNELS - 1, in->channel);
    if (!weft_kernels_select(in->isa, 0))
        return weft_refuse(d, WEFT_ERR_UNSUPPORTED, WEFT_TEXT("desc.isa"), 0, (uint64_t)in->isa);
    if ((s = subspace_enum((uint64_t)in->rule, SUBSPACE_MEAN, WEFT_TEXT("desc.rule"), d)) != WEFT_OK ||
        (s = subspace_enum((uint64_t)in->assignment, SUBSPACE_FORWARD, WEFT_TEXT("desc.assignment"), d)) != WEFT_OK ||
        (s = subspace_enum((uint64_t)in->scale, SUBSPACE_SCALE_OFF, WEFT_TEXT("desc.scale"), d)) != WEFT_OK ||
        (s = subspace_enum((uint64_t)in->negative, SUBSPACE_NEGATIVE_CLAMP, WEFT_TEXT("desc.negative"), d)) !=
            WEFT_OK ||
        (s = subspace_enum((uint64_t)in->guard, SUBSPACE_GUARD_REJECT, WEFT_TEXT("desc.guard"), d)) != WEFT_OK ||
        (s = subspace_enum((uint64_t)in->plan, SUBSPACE_PLAN_SHARED, WEFT_TEXT("desc.plan"), d)) != WEFT_OK ||
        (s = subspace_enum((uint64_t)(int64_t)in->in_place, 1, WEFT_TEXT("desc.in_place"), d)) != WEFT_OK)
        return s;
    if (in->plan == SUBSPACE_PLAN_DEFAULT)
        out->plan = !in->transport || in->transport->shared ? SUBSPACE_PLAN_SHARED : SUBSPACE_PLAN_EXCHANGE;
#ifdef WEFT_CUDA
    if (in->cuda && in->transport) {
        if (in->plan == SUBSPACE_PLAN_SHARED)
            return weft_refuse(d, WEFT_ERR_UNSUPPORTED, WEFT_TEXT("desc.plan (on a GPU)"), SUBSPACE_PLAN_EXCHANGE,
                               SUBSPACE_PLAN_SHARED);
        out->plan = SUBSPACE_PLAN_EXCHANGE;
    }
#endif
    if (in->plan == SUBSPACE_PLAN_SHARED && in->transport && !in->transport->shared)
        return weft_refuse(d, WEFT_ERR_UNSUPPORTED, WEFT_TEXT("transport.shared (for desc.plan)"), 1, 0);
    if (in->in_place && in->guard == SUBSPACE_GUARD_REJECT && out->plan == SUBSPACE_PLAN_EXCHANGE)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.guard (with desc.in_place)"), SUBSPACE_GUARD_EXCLUDE,
                           (uint64_t)in->guard);
    if (!(in->momentum >= 0.0 && in->momentum < 1.0))
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.momentum"), weft_double_bits(1.0),
                           weft_double_bits(in->momentum));
    out->epsilon = in->epsilon == 0.0 ? 1e-8 : in->epsilon == (double)WEFT_ZERO ? 0.0 : in->epsilon;
    if (!(out->epsilon >= 0.0 && weft_is_finite(out->epsilon)))
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.epsilon"), 0, weft_double_bits(in->epsilon));
    out->isa = weft_isa_resolve(in->isa);
    if (in->rule == SUBSPACE_MEAN && in->scale != SUBSPACE_SCALE_DEFAULT && in->scale != SUBSPACE_SCALE_OFF)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.scale (of the mean)"), SUBSPACE_SCALE_OFF,
                           (uint64_t)in->scale);
    if (in->scale == SUBSPACE_SCALE_DEFAULT)
        out->scale = in->assignment == SUBSPACE_FORWARD || in->rule == SUBSPACE_MEAN ? SUBSPACE_SCALE_OFF
                                                                                     : SUBSPACE_SCALE_PROJECTION;
    if (!in->group_of_tensor) {
        if (in->groups)
            return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.groups (without group_of_tensor)"), 0, in->groups);
        out->groups = 1;
    } else {
        for (i = 0; i < in->gradients.count; i++)
            if (in->group_of_tensor[i] >= in->groups)
                return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.group_of_tensor"), in->groups,
                                   in->group_of_tensor[i]);
    }
    if (in->timeout_ns && (!in->transport || !in->transport->now))
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("transport.now (for a deadline)"), 1, 0);
    return WEFT_OK;
}

/* ---- Memory ---- */

WEFT_FN subspace *subspace_lay_out(weft_layout *l, const subspace_desc *d, subspace *tmp) {
    const uint32_t size = d->transport ? d->transport->size : 1;
    const uint32_t rows = d->here > size ? d->here : size;
    subspace *made = (subspace *)weft_layout_take(l, WEFT_TEXT("subspace"), 1, sizeof(subspace));
    subspace *a = made ? made : tmp;
    size_t bytes, chunks, odd = 0, mirror = 0, row = 0, all = 0, each = 0;
    int ok = 1;
    memset(a, 0, sizeof *a);
    a->rows = rows;
    a->shared = d->transport && d->plan == SUBSPACE_PLAN_SHARED;
    a->moving = d->in_place && d->plan == SUBSPACE_PLAN_EXCHANGE;
    a->groups = d->groups;
    weft_group_layout(l, size, &a->group.peer, &a->group.member);
    weft_sync_layout(l, size, &a->sync.all);
    bytes = weft_map_measure(&d->gradients, &ok);
    /* each submission may end in a part of a chunk, and each chunk in shards that are rounded up */
    chunks = bytes / SUBSPACE_CHUNK + 1;
    if (!weft_add_size(chunks, d->gradients.count, &chunks) || chunks >= UINT32_MAX / 4 ||
        !weft_mul_size(rows, WEFT_ALIGNMENT, &odd) || !weft_mul_size(chunks, odd + WEFT_ALIGNMENT, &mirror) ||
        !weft_add_size(bytes < SUBSPACE_CHUNK ? bytes : SUBSPACE_CHUNK, odd, &a->bounce) ||
        !weft_mul_size(2 * (size_t)rows, d->groups, &row) || !weft_mul_size(row, size, &all) ||
        !weft_mul_size(rows, d->groups, &each))
        l->overflow = 1;
    if (!d->transport)
        mirror = 0;
    else if (a->shared)
        mirror = d->in_place ? 0 : bytes;
    else if (!weft_add_size(mirror, a->moving ? a->bounce : bytes, &mirror))
        l->overflow = 1;
    a->map.position =
        (size_t *)weft_layout_take(l, WEFT_TEXT("positions of the tensors"), d->gradients.count + 1, sizeof(size_t));
    a->chunk = (subspace_chunk *)weft_layout_take(l, WEFT_TEXT("chunks"), chunks, sizeof(subspace_chunk));
    a->mirror = (unsigned char *)weft_layout_data(l, WEFT_TEXT("pieces, then the aggregate"), mirror, 1);
    a->theirs =
        (subspace **)weft_layout_take(l, WEFT_TEXT("where the others are"), a->shared ? size : 0, sizeof(subspace *));
    a->group_of = (uint32_t *)weft_layout_take(l, WEFT_TEXT("group of each tensor"),
                                               d->group_of_tensor ? d->gradients.count : 0, sizeof(uint32_t));
    a->submitted = (unsigned char *)weft_layout_take(l, WEFT_TEXT("marks of each tensor"), d->gradients.count, 1);
    a->excluded = (unsigned char *)weft_layout_take(l, WEFT_TEXT("marks of each worker and group"), each, 1);
    a->who = (uint32_t *)weft_layout_take(l, WEFT_TEXT("participants"), rows, 3 * sizeof(uint32_t));
    a->x = (const void **)weft_layout_take(l, WEFT_TEXT("sources of a sum"), rows, sizeof(void *));
    a->factor = (double *)weft_layout_take(l, WEFT_TEXT("factors and samples"), rows, 2 * sizeof(double));
    a->numbers = (double *)weft_layout_take(l, WEFT_TEXT("dots and squares from each"), all, sizeof(double));
    a->total = (double *)weft_layout_take(l, WEFT_TEXT("dots and squared norms"), row, sizeof(double));
    a->alpha = (double *)weft_layout_take(l, WEFT_TEXT("alphas, weights, coefficients, norms, slots"), each,
                                          6 * sizeof(double));
    a->scale = (double *)weft_layout_take(l, WEFT_TEXT("scale of each group"), d->groups, sizeof(double));
    a->alone_in = (unsigned char *)weft_layout_take(l, WEFT_TEXT("marks of each group"), d->groups, 1);
    a->slot_count = (uint32_t *)weft_layout_take(l, WEFT_TEXT("number of slots"), d->groups, sizeof(uint32_t));
    a->room = (double *)weft_layout_take(l, WEFT_TEXT("numbers of blocks"), d->pool ? SUBSPACE_WAVE_BLOCKS * 2 : 2,
                                         rows * sizeof(double));
#ifdef WEFT_CUDA
    weft_gpu_layout(l, &a->gpu, &d->gradients, &d->gradients, rows, WEFT_BLOCK / SUBSPACE_BLOCK);
    a->gpu_numbers = (weft_slot *)weft_layout_data(l, WEFT_TEXT("numbers of a run"), d->cuda ? rows : 0,
                                                   WEFT_SLOTS * sizeof(weft_slot));
    a->gpu_row = (weft_slot *)weft_layout_take(l, WEFT_TEXT("numbers of a run, here"), d->cuda ? rows : 0,
                                               WEFT_SLOTS * sizeof(weft_slot));
#endif
    if (!ok) l->overflow = 1;
    return made;
}

SUBSPACE_API size_t subspace_memory_abi(const subspace_desc *desc, weft_memory_report *report, size_t desc_size,
                                        uint32_t abi) {
    weft_layout l;
    weft_detail detail = weft_detail_none();
    subspace_desc d;
    subspace tmp;
    size_t total = 0;
    memset(&l, 0, sizeof l);
    if (report) memset(report, 0, sizeof *report);
    l.report = report;
    if (subspace_check(desc, desc_size, abi, &d, &detail) == WEFT_OK) {
        WEFT_GPU_LEND(&l, &d);
        subspace_lay_out(&l, &d, &tmp);
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

WEFT_FN const char *const *subspace_field_names(void) {
    static const char *const names[] = {"algorithm",
                                        "version",
                                        "gradients.count",
                                        "gradients (elements)",
                                        "gradients (shapes and types)",
                                        "rule",
                                        "assignment",
                                        "scale",
                                        "negative",
                                        "guard",
                                        "groups",
                                        "group_of_tensor",
                                        "momentum",
                                        "epsilon",
                                        "plan",
                                        "in_place",
                                        NULL};
    return names;
}

WEFT_FN void subspace_fingerprint(subspace *a) {
    const subspace_desc *d = &a->desc;
    uint64_t h = 0;
    size_t i;
    uint64_t *f = a->sync.mine;
    for (i = 0; a->group_of && i < d->gradients.count; i++) h = (h ^ a->group_of[i]) * 0x9E3779B97F4A7C15u + (h >> 31);
    a->sync.name = subspace_field_names();
    f[0] = SUBSPACE_MAGIC;
    f[1] = WEFT_VERSION;
    f[2] = d->gradients.count;
    f[3] = weft_tensors_elements(&d->gradients);
    f[4] = weft_shape_hash(&d->gradients);
    f[5] = (uint64_t)d->rule;
    f[6] = (uint64_t)d->assignment;
    f[7] = (uint64_t)d->scale;
    f[8] = (uint64_t)d->negative;
    f[9] = (uint64_t)d->guard;
    f[10] = d->groups;
    f[11] = h;
    f[12] = weft_double_bits(d->momentum);
    f[13] = weft_double_bits(d->epsilon);
    f[14] = (uint64_t)d->plan;
    f[15] = (uint64_t)d->in_place;
}

WEFT_FN uint64_t subspace_blob_fingerprint(const subspace *a) {
    uint64_t h = 0x9E3779B97F4A7C15u + a->group.net->rank;
    int i;
    for (i = 0; i < WEFT_SYNC_COMMITTED; i++) {
        h = (h ^ a->sync.mine[i]) * 0xBF58476D1CE4E5B9u;
        h ^= h >> 29;
    }
    return (h ^ a->group.net->size ^ (uint64_t)a->rows << 32) * 0x94D049BB133111EBu;
}

/* Nothing of a round is left. */
WEFT_FN void subspace_forget(subspace *a) {
    a->chunks = a->begun = a->summed = a->mixed = a->gathered = 0;
    a->step = a->attempts = 0;
    a->in_flight = 0;
    a->waiting = a->desc.gradients.count;
    a->nonfinite = 0;
    a->have = 0;
    if (a->waiting) memset(a->submitted, 0, a->waiting);
    memset(a->excluded, 0, a->rows * a->groups);
}

/* Everything that training changes, as at the beginning. */
WEFT_FN void subspace_begin_afresh(subspace *a) {
    size_t i;
    a->joined = a->cut = a->wanting = a->lost = 0;
    a->state = SUBSPACE_IDLE;
    a->then = SUBSPACE_THEN_IDLE;
    a->round = a->settled = a->averaged = 0;
    a->own_samples = 1.0;
    a->count = 0;
    memset(&a->stats, 0, sizeof a->stats);
    for (i = 0; i < a->groups; i++) {
        a->slot_count[i] = 0;
        a->scale[i] = (double)NAN;
    }
    for (i = 0; i < a->groups * a->rows; i++) a->norm[i] = (double)NAN;
    subspace_forget(a);
}

SUBSPACE_API weft_status subspace_init_abi(subspace **out, const subspace_desc *desc, void *memory, size_t bytes,
                                           weft_detail *detail, size_t desc_size, uint32_t abi) {
    weft_detail why = weft_detail_none();
    weft_detail *say = detail ? detail : &why;
    weft_layout l;
    subspace_desc d;
    subspace *a;
    size_t need, each, i;
    weft_status s;
    *say = why;
    if (!out) return weft_refuse(say, WEFT_ERR_ARGUMENT, WEFT_TEXT("out"), 1, 0);
    *out = NULL;
    if ((s = subspace_check(desc, desc_size, abi, &d, say)) != WEFT_OK) return s;
    need = subspace_memory_abi(desc, NULL, desc_size, abi);
    if (!need) return weft_refuse(say, WEFT_ERR_OVERFLOW, WEFT_TEXT("memory"), SIZE_MAX, 0);
    if (!memory || bytes < need) return weft_refuse(say, WEFT_ERR_MEMORY, WEFT_TEXT("bytes"), need, memory ? bytes : 0);
    if ((s = weft_float_probe(say)) != WEFT_OK) return s;
    memset(&l, 0, sizeof l);
    l.base = weft_align_memory(memory);
    WEFT_GPU_LEND(&l, &d);
    a = subspace_lay_out(&l, &d, NULL);
    a->magic = SUBSPACE_MAGIC;
    a->desc = d;
    a->desc.view = NULL;
    each = a->groups * a->rows;
    a->weight = a->alpha + each;
    a->coefficient = a->weight + each;
    a->norm = a->coefficient + each;
    a->slots = a->norm + each;
    a->new_slots = a->slots + each;
    a->samples = a->factor + a->rows;
    a->order = a->who + a->rows;
    a->place = a->order + a->rows;
    if (d.group_of_tensor)
        for (i = 0; i < d.gradients.count; i++) a->group_of[i] = d.group_of_tensor[i];
    else
        a->group_of = NULL;
    a->desc.group_of_tensor = a->group_of;
    a->alone = weft_transport_make(NULL, 0, 1, NULL, NULL, NULL, NULL, NULL);
    weft_group_start(&a->group, d.transport ? d.transport : &a->alone, d.channel, desc->view, d.timeout_ns, d.trace,
                     d.trace_ctx);
    a->group.owner = a;
    weft_map_init(&a->map, &a->desc.gradients, a->map.position);
    /* what is received passes the cache on its way, and what is summed is in it */
    a->kernels = weft_kernels_select(d.isa, 0);
    s = WEFT_GPU_INIT(&a->gpu, &d, &l, &a->kernels, say);
    if (s != WEFT_OK) return s;
    WEFT_GPU_USE(a->group, &d, &a->gpu);
    WEFT_GPU_USE(a->map, &d, &a->gpu);
    a->mixing = a->kernels;
    a->wide = weft_wide_kernels_select(d.isa, 0);
    subspace_fingerprint(a);
    subspace_begin_afresh(a);
    *out = a;
    return WEFT_OK;
}

/* ---- Sums over the participants: parts of <g_i, s> and <g_i, g_i>, and of the aggregate ---- */

/* Participant i's columns from element `at` of the run, as elements of f32 or f64 (16-bit types: through `room`). */
WEFT_FN const void *subspace_columns(const subspace *a, weft_dtype t, uint32_t i, size_t at, size_t n, float *room) {
    const unsigned char *p = (const unsigned char *)a->x[i] + at * weft_dtype_bytes(t);
    if (weft_dtype_bytes(t) != 2) return p;
    (t == WEFT_BF16 ? a->kernels->bf16_to_f32 : a->kernels->f16_to_f32)(n, (const uint16_t *)(const void *)p, room);
    return room;
}

/* The sum over i of factor_i g_i over n columns, in f64: into s, or if `out` is not NULL, rounded once, there. A
 * participant with factor 0 is not looked at. n is up to SUBSPACE_BLOCK, but for one pass over f32 or f64 to `out`. */
WEFT_FN void subspace_block_sum(const subspace *a, weft_dtype t, size_t at, size_t n, double *s, void *out) {
    const weft_wide_set *k = t == WEFT_F64 ? &a->wide->f64 : &a->wide->f32;
    float room[4][SUBSPACE_BLOCK];
    const void *x[4];
    double w[4];
    uint32_t i, have = 0, left = 0;
    int started = 0;
    for (i = 0; i < a->count; i++) left += a->factor[i] != 0.0;
    if (!left) {
        if (out)
            memset(out, 0, n * (t == WEFT_F64 ? 8 : 4));
        else
            memset(s, 0, n * sizeof *s);
    }
    for (i = 0; i < a->count; i++) {
        if (a->factor[i] == 0.0) continue;
        w[have] = a->factor[i];
        x[have] = subspace_columns(a, t, i, at, n, room[have]);
        have++;
        left--;
        if (have < 4 && left) continue;
        k->sum_wide(n, have, w, x, s, started, left ? NULL : out, a->mixing->stream);
        started = 1;
        have = 0;
    }
}

/* <g_i, s> and <g_i, g_i> of few participants by way of their products with each other: up to four of them take less
 * than forming s. */
WEFT_FN void subspace_block_products(const subspace *a, weft_dtype t, size_t at, size_t n, double *out) {
    const weft_wide_set *k = t == WEFT_F64 ? &a->wide->f64 : &a->wide->f32;
    double product[4][4], lanes[10 * WEFT_LANES_OF_A_BLOCK];
    float room[4][SUBSPACE_BLOCK];
    const void *x[4];
    uint32_t place[4], have = 0, i, j, p;
    for (i = 0; i < a->count; i++) {
        if (a->factor[i] == 0.0) continue;
        place[have] = i;
        x[have] = subspace_columns(a, t, i, at, n, room[have]);
        have++;
    }
    if (!have) return;
    for (i = have; i < 4; i++) x[i] = x[0]; /* looked at, for nothing */
    memset(lanes, 0, sizeof lanes);
    if (have <= 2) {
        k->dots_block(n, x[0], x[1], lanes);
        product[0][1] = product[1][0] = weft_lanes_sum(lanes);
        product[0][0] = weft_lanes_sum(lanes + WEFT_LANES_OF_A_BLOCK);
        product[1][1] = weft_lanes_sum(lanes + 2 * WEFT_LANES_OF_A_BLOCK);
    } else {
        k->gram_block(n, x, lanes);
        for (i = p = 0; i < 4; i++)
            for (j = i; j < 4; j++, p++)
                product[i][j] = product[j][i] = weft_lanes_sum(lanes + p * WEFT_LANES_OF_A_BLOCK);
    }
    for (i = 0; i < have; i++) {
        out[a->count + place[i]] = product[i][i];
        for (j = 0; j < have; j++) out[place[i]] += a->factor[place[j]] * product[i][j];
    }
}

/* The sums of up to SUBSPACE_BLOCK columns: out[i] = <g_i, s>, out[count + i] = <g_i, g_i>, s = sum of n_j g_j. Lanes
 * and their order are those of the contract; s stays in f64. a->factor: samples, 0 for those who are left out. */
WEFT_FN void subspace_block_numbers(const subspace *a, weft_dtype t, size_t at, size_t n, double *out) {
    const weft_wide_set *k = t == WEFT_F64 ? &a->wide->f64 : &a->wide->f32;
    double s[SUBSPACE_BLOCK], lanes[2 * WEFT_LANES_OF_A_BLOCK];
    float room[SUBSPACE_BLOCK];
    uint32_t i;
    for (i = 0; i < 2 * a->count; i++) out[i] = 0.0;
    if (a->count <= 4) {
        subspace_block_products(a, t, at, n, out);
        return;
    }
    subspace_block_sum(a, t, at, n, s, NULL);
    for (i = 0; i < a->count; i++) {
        if (a->factor[i] == 0.0) continue;
        memset(lanes, 0, sizeof lanes);
        k->dots_wide(n, subspace_columns(a, t, i, at, n, room), s, lanes);
        out[i] = weft_lanes_sum(lanes);
        out[a->count + i] = weft_lanes_sum(lanes + WEFT_LANES_OF_A_BLOCK);
    }
}

/* The aggregate's columns. 16-bit types are rounded to f32 first, as everywhere. */
WEFT_FN void subspace_block_mix(const subspace *a, weft_dtype t, size_t at, size_t n, unsigned char *out) {
    double s[SUBSPACE_BLOCK];
    float room[SUBSPACE_BLOCK];
    unsigned char *to = out + at * weft_dtype_bytes(t);
    if (weft_dtype_bytes(t) != 2) {
        subspace_block_sum(a, t, at, n, s, to);
        return;
    }
    subspace_block_sum(a, t, at, n, s, room);
    (t == WEFT_BF16 ? a->kernels->f32_to_bf16 : a->kernels->f32_to_f16)(n, room, (uint16_t *)(void *)to);
}

typedef struct subspace_job {
    const subspace *a;
    weft_dtype dtype;
    size_t n, first, end; /* elements of the run; blocks of the wave */
    unsigned char *out;   /* NULL: numbers */
    double *room;         /* numbers: of block `first` */
} subspace_job;

WEFT_FN void subspace_job_piece(void *arg, size_t index) {
    const subspace_job *j = (const subspace_job *)arg;
    size_t b = j->first + index * SUBSPACE_PIECE_BLOCKS, end = b + SUBSPACE_PIECE_BLOCKS;
    if (end > j->end) end = j->end;
    for (; b < end; b++) {
        const size_t at = b * SUBSPACE_BLOCK, n = j->n - at < SUBSPACE_BLOCK ? j->n - at : SUBSPACE_BLOCK;
        if (j->out)
            subspace_block_mix(j->a, j->dtype, at, n, j->out);
        else
            subspace_block_numbers(j->a, j->dtype, at, n, j->room + (b - j->first) * 2 * j->a->count);
    }
    if (j->out && j->a->mixing->stream) j->a->mixing->fence();
}

#ifdef WEFT_CUDA
/* Its numbers, on the device. */
WEFT_FN void subspace_run_on_gpu(subspace *a, weft_dtype t, size_t n, double *numbers) {
    const size_t bytes = a->count * WEFT_SLOTS * sizeof(weft_slot);
    uint32_t i;
    memset(a->gpu_row, 0, bytes);
    for (i = 0; i < a->count; i++) {
        a->gpu_row[i * WEFT_SLOTS].sum = numbers[i];
        a->gpu_row[i * WEFT_SLOTS + 1].sum = numbers[a->count + i];
    }
    weft_data_in(&a->gpu, a->gpu_numbers, a->gpu_row, bytes);
    weft_gpu_note(&a->gpu, weft_device_numbers(&a->gpu.device, t, n, a->count, a->factor, a->x, a->gpu_numbers));
    weft_data_out(&a->gpu, a->gpu_row, a->gpu_numbers, bytes);
    for (i = 0; a->gpu.failed == WEFT_OK && i < a->count; i++) {
        numbers[i] = a->gpu_row[i * WEFT_SLOTS].sum;
        numbers[a->count + i] = a->gpu_row[i * WEFT_SLOTS + 1].sum;
    }
}

/* The aggregate of a run, on the device. */
WEFT_FN uint64_t subspace_mix_on_gpu(subspace *a, weft_dtype t, size_t n, unsigned char *out) {
    weft_slot total;
    weft_gpu_fetch(&a->gpu, weft_device_sum_wide(&a->gpu.device, t, n, a->count, a->factor, a->x, out, a->gpu.total),
                   &total, 1);
    return total.count;
}
#endif

/* A run: n elements of one tensor, x[i] where participant i has them. With out NULL adds its numbers to `numbers`
 * (count dots, then count squares), block by block in order; else writes the aggregate there. */
WEFT_FN void subspace_run(subspace *a, weft_dtype t, size_t n, unsigned char *out, double *numbers) {
    const size_t blocks = n / SUBSPACE_BLOCK + (n % SUBSPACE_BLOCK != 0);
    const int parallel = a->desc.pool && a->desc.pool->parallel_for && blocks > SUBSPACE_PIECE_BLOCKS;
    const size_t wave = parallel ? SUBSPACE_WAVE_BLOCKS : 1;
    subspace_job j;
    size_t b;
    uint32_t i;
#ifdef WEFT_CUDA
    if (a->map.gpu) {
        subspace_run_on_gpu(a, t, n, numbers);
        return;
    }
#endif
    j.a = a;
    j.dtype = t;
    j.n = n;
    j.out = out;
    j.room = a->room;
    for (j.first = 0; j.first < blocks; j.first = j.end) {
        j.end = blocks - j.first < wave || (out && parallel) ? blocks : j.first + wave;
        weft_parallel_for(parallel ? a->desc.pool : NULL,
                          (j.end - j.first + SUBSPACE_PIECE_BLOCKS - 1) / SUBSPACE_PIECE_BLOCKS, subspace_job_piece,
                          &j);
        for (b = 0; !out && b < j.end - j.first; b++)
            for (i = 0; i < 2 * a->count; i++) numbers[i] += a->room[b * 2 * a->count + i];
    }
}

/* The aggregate of a run; returns how many of its elements are not finite. They are counted only where they could be:
 * no element of a gradient exceeds its norm. */
WEFT_FN uint64_t subspace_mix_run(subspace *a, weft_dtype t, size_t n, size_t group, unsigned char *out) {
    const double most = t == WEFT_F64 ? 1e308 : t == WEFT_F16 ? 65000.0 : 3e38;
    double bound = 0.0;
    uint32_t i, sources = 0;
#ifdef WEFT_CUDA
    if (a->map.gpu) return subspace_mix_on_gpu(a, t, n, out);
#endif
    for (i = 0; i < a->count; i++) {
        const double f = a->factor[i];
        if (f == 0.0) continue;
        sources++;
        bound += (f < 0.0 ? -f : f) * a->norm[group * a->rows + a->who[i]];
    }
    if (sources <= 4 && weft_dtype_bytes(t) != 2 && !(a->desc.pool && a->desc.pool->parallel_for)) {
        subspace_block_sum(a, t, 0, n, NULL, out); /* all in one pass */
        if (a->mixing->stream) a->mixing->fence();
    } else {
        subspace_run(a, t, n, out, NULL);
    }
    return bound < most ? 0 : weft_run_count_nonfinite(a->kernels, a->desc.pool, t, n, out);
}

/* Where participant i's shard `shard` of a chunk begins. */
WEFT_FN size_t subspace_shard(const subspace_chunk *c, uint32_t shard) {
    const size_t at = c->lo + shard * c->unit;
    return at < c->hi ? at : c->hi;
}

/* Moving: where byte `at` of the others' pieces of a chunk stands, piece i from i * unit on: in place of this worker's
 * own shards, and what is more than these (shards are rounded up) behind the room of the arriving chunk. */
WEFT_FN size_t subspace_fits(const subspace_chunk *c) {
    return (c->hi - c->lo) / WEFT_ALIGNMENT * WEFT_ALIGNMENT;
}

WEFT_FN unsigned char *subspace_home(const subspace *a, const subspace_chunk *c, size_t at) {
    const size_t fits = subspace_fits(c);
    if (at < fits) return (unsigned char *)a->map.tensor[c->tensor].data + (c->lo - a->map.position[c->tensor]) + at;
    return a->mirror + a->bounce + (size_t)(c - a->chunk) * (a->rows + (size_t)1) * WEFT_ALIGNMENT + (at - fits);
}

/* How far from `past` on everybody's piece is in one stretch. */
WEFT_FN size_t subspace_stretch(const subspace *a, const subspace_chunk *c, size_t past) {
    const size_t fits = subspace_fits(c);
    size_t least = SIZE_MAX;
    uint32_t i;
    for (i = 0; a->desc.in_place && i < a->count; i++) /* whichever the plan: the same bits */
        if (i * c->unit + past < fits && fits - i * c->unit - past < least) least = fits - i * c->unit - past;
    return least;
}

/* The run at position `at` of shard `shard`: where everybody's elements of it stand. `own`: in this worker's
 * tensors. */
WEFT_FN void subspace_sources(subspace *a, const subspace_chunk *c, uint32_t shard, size_t at, size_t which,
                              unsigned char *own) {
    const size_t past = at - subspace_shard(c, shard);
    uint32_t i;
    for (i = 0; i < a->count; i++) {
        const weft_tensor *t = a->set      ? a->set[i].tensor
                               : a->shared ? a->theirs[a->who[i]]->desc.gradients.tensor
                                           : NULL;
        if (t)
            a->x[i] = (const unsigned char *)t[which].data + (at - a->map.position[which]);
        else if (i == a->self)
            a->x[i] = own;
        else
            a->x[i] = a->moving ? subspace_home(a, c, i * c->unit + past) : a->mirror + c->slot + i * c->unit + past;
    }
}

enum { SUBSPACE_ALL_GROUPS = -1 };

/* What a worker's gradient is multiplied by in the end. */
WEFT_FN double subspace_factor(const subspace *a, size_t group, uint32_t rank) {
    const size_t at = group * a->rows + rank;
    if (a->excluded[at]) return 0.0;
    /* a gradient that is alone is given back as it is */
    if (a->coefficient[at] * a->norm[at] > 0.0 && a->alone_in[group]) return 1.0;
    return a->coefficient[at] * a->scale[group];
}

/* The numbers of one shard of a chunk: a part of everybody's dots and squares. `only`: a group, or all. For the plain
 * mean, of which somebody is not finite, they tell no more than who. */
WEFT_FN void subspace_sum_chunk(subspace *a, const subspace_chunk *c, uint32_t shard, double *row, long only) {
    weft_range at = weft_range_map(&a->map, a->desc.gradients.tensor, NULL, 0, subspace_shard(c, shard),
                                   subspace_shard(c, shard + 1));
    const size_t lo = subspace_shard(c, shard);
    unsigned char *own;
    size_t each, which, bytes;
    while ((bytes = weft_range_next(&at, subspace_stretch(a, c, at.at - lo), &own, &each, &which)) != 0) {
        const size_t group = a->group_of ? a->group_of[which] : 0;
        double *numbers = row + group * 2 * a->count;
        const weft_dtype t = a->map.tensor[which].dtype;
        uint32_t i;
        if (only != SUBSPACE_ALL_GROUPS && (size_t)only != group) continue;
        subspace_sources(a, c, shard, at.at - bytes, which, own);
        for (i = 0; i < a->count; i++)
            a->factor[i] = a->excluded[group * a->rows + a->who[i]] ? 0.0 : a->samples[a->who[i]];
        if (a->desc.rule != SUBSPACE_MEAN)
            subspace_run(a, t, bytes / each, NULL, numbers);
        else
            for (i = 0; i < a->count; i++)
                if (a->factor[i] != 0.0 && weft_run_count_nonfinite(a->kernels, a->desc.pool, t, bytes / each, a->x[i]))
                    numbers[a->count + i] = (double)INFINITY;
    }
}

/* One shard of the aggregate, into `into` (the shard's beginning first), or, if that is NULL, into the tensors `to`,
 * and in place with shared memory into everybody's. */
WEFT_FN void subspace_mix_chunk(subspace *a, const subspace_chunk *c, uint32_t shard, unsigned char *into,
                                const weft_tensor *to, long only) {
    const size_t lo = subspace_shard(c, shard);
    weft_range at = weft_range_map(&a->map, a->desc.gradients.tensor, NULL, 0, lo, subspace_shard(c, shard + 1));
    unsigned char *own, *out;
    size_t each, which, bytes;
    uint32_t i;
    while ((bytes = weft_range_next(&at, subspace_stretch(a, c, at.at - lo), &own, &each, &which)) != 0) {
        const size_t group = a->group_of ? a->group_of[which] : 0, from = at.at - bytes;
        const weft_dtype t = a->map.tensor[which].dtype;
        if (only != SUBSPACE_ALL_GROUPS && (size_t)only != group) continue;
        subspace_sources(a, c, shard, from, which, own);
        out = into ? into + (from - lo) : (unsigned char *)to[which].data + (from - a->map.position[which]);
        for (i = 0; i < a->count; i++) a->factor[i] = subspace_factor(a, group, a->who[i]);
        if (a->desc.rule == SUBSPACE_MEAN)
            a->nonfinite +=
                weft_run_weighted_sum(a->mixing, a->desc.pool, t, bytes / each, a->count, a->factor, a->x, out);
        else
            a->nonfinite += subspace_mix_run(a, t, bytes / each, group, out);
        for (i = 0; a->shared && !into && !a->set && i < a->count; i++)
            if (i != a->self)
                memcpy((unsigned char *)a->theirs[a->who[i]]->desc.gradients.tensor[which].data +
                           (from - a->map.position[which]),
                       out, bytes);
    }
}

/* ---- Coefficients: from the sums to what each gradient is multiplied by ---- */

/* The k-th smallest alpha's place among the n that count, ties by rank. */
WEFT_FN void subspace_sort(subspace *a, const double *alpha, uint32_t n) {
    uint32_t i, k;
    for (i = 0; i < n; i++) {
        for (k = i; k > 0 && alpha[a->order[k - 1]] > alpha[i]; k--) a->order[k] = a->order[k - 1];
        a->order[k] = i;
    }
}

/* Weights of a group from its alphas: sorted, averaged over steps, given back, and made to sum to 1 (lines 5 to 8 of
 * the published sequence). a->place: the n who count. */
WEFT_FN void subspace_weigh(subspace *a, size_t group, uint32_t n, double samples) {
    double *alpha = a->factor; /* scratch here */
    double *w = a->weight + group * a->rows, *slot = a->new_slots + group * a->rows, sum = 0.0, size = 0.0, least = 0.0;
    const double *old = a->slots + group * a->rows, beta = a->desc.momentum;
    uint32_t i, k;
#define SUBSPACE_RANK(i) a->who[a->place[i]]
    for (i = 0; i < n; i++) alpha[i] = a->alpha[group * a->rows + SUBSPACE_RANK(i)];
    subspace_sort(a, alpha, n);
    for (k = 0; k < n; k++) {
        slot[k] = alpha[a->order[k]];
        if (n == a->count && a->slot_count[group] == n) slot[k] = beta * old[k] + (1.0 - beta) * slot[k];
    }
    for (i = 0; i < n; i++) {
        if (a->desc.assignment == SUBSPACE_FORWARD)
            w[SUBSPACE_RANK(i)] = slot[a->order[i]];
        else
            w[SUBSPACE_RANK(a->order[i])] = slot[i];
    }
    for (i = 0; i < n; i++)
        if (w[SUBSPACE_RANK(i)] < least) least = w[SUBSPACE_RANK(i)];
    for (i = 0; i < n; i++) {
        double *v = &w[SUBSPACE_RANK(i)];
        if (a->desc.negative == SUBSPACE_NEGATIVE_SHIFT) *v -= least;
        if (a->desc.negative == SUBSPACE_NEGATIVE_CLAMP && *v < 0.0) *v = 0.0;
        *v *= a->samples[SUBSPACE_RANK(i)];
        sum += *v;
        size += *v < 0.0 ? -*v : *v;
    }
    /* nothing to divide by; the published code divides by whatever is not exactly zero */
    if (a->desc.assignment == SUBSPACE_FORWARD ? sum == 0.0 || !weft_is_finite(sum) : !(sum > 1e-6 * size)) {
        a->zero_sums++;
        for (i = 0; i < n; i++) w[SUBSPACE_RANK(i)] = a->samples[SUBSPACE_RANK(i)] / samples;
    } else {
        for (i = 0; i < n; i++) w[SUBSPACE_RANK(i)] /= sum;
    }
}

/* What the aggregate of a group is multiplied by. */
WEFT_FN double subspace_rescale(subspace *a, size_t group, uint32_t n, double samples) {
    const double *c = a->coefficient + group * a->rows, *norm = a->norm + group * a->rows;
    const double *dots = a->total + group * 2 * a->count;
    double mean = 0.0, along = 0.0, length = 0.0;
    uint32_t i;
    if (a->desc.scale == SUBSPACE_SCALE_OFF) return 1.0;
    for (i = 0; i < n; i++) {
        const uint32_t r = SUBSPACE_RANK(i);
        const double p = a->samples[r] / samples, dot = dots[a->place[i]] / samples;
        mean += p * dot;     /* |mean|^2 */
        along += c[r] * dot; /* <psi, mean> */
        length += p * norm[r];
    }
    if (a->desc.scale == SUBSPACE_SCALE_PROJECTION) {
        if (along > 0.0 && weft_is_finite(mean / along)) return mean / along;
        a->scale_fallbacks++;
    }
    return length;
}

/* The coefficients of a group, from a->total. 0: nobody is left in it. */
WEFT_FN int subspace_coefficients(subspace *a, size_t group) {
    double *alpha = a->alpha + group * a->rows, *c = a->coefficient + group * a->rows,
           *norm = a->norm + group * a->rows;
    double *w = a->weight + group * a->rows, samples = 0.0;
    const double *dot = a->total + group * 2 * a->count, *square = dot + a->count;
    uint32_t n = 0, i;
    for (i = 0; i < a->rows; i++) {
        c[i] = w[i] = 0.0;
        norm[i] = alpha[i] = (double)NAN;
    }
    for (i = 0; i < a->count; i++) {
        if (a->excluded[group * a->rows + a->who[i]]) continue;
        a->place[n++] = i;
        samples += a->samples[a->who[i]];
    }
    if (!n) return 0;
    for (i = 0; i < n; i++) {
        const uint32_t r = SUBSPACE_RANK(i);
        norm[r] = a->desc.rule == SUBSPACE_MEAN ? 0.0 : sqrt(square[a->place[i]]);
        alpha[r] = dot[a->place[i]] / (norm[r] + a->desc.epsilon) / samples;
        if (!weft_is_finite(alpha[r])) alpha[r] = 0.0; /* without an epsilon: of nothing */
    }
    if (a->desc.rule == SUBSPACE_NORMALISED) {
        if (n == a->count && a->slot_count[group] && a->slot_count[group] != n) a->restarts++;
        subspace_weigh(a, group, n, samples);
    }
    for (i = 0; i < n; i++) {
        const uint32_t r = SUBSPACE_RANK(i);
        const double p = a->samples[r] / samples, length = norm[r] + a->desc.epsilon;
        if (a->desc.rule == SUBSPACE_NORMALISED)
            c[r] = length > 0.0 ? w[r] / length : 0.0;
        else
            c[r] = w[r] = a->desc.rule == SUBSPACE_MEAN ? p : (double)n * p * (dot[a->place[i]] / samples);
    }
    a->scale[group] = subspace_rescale(a, group, n, samples);
    a->alone_in[group] = n == 1 && a->desc.scale == SUBSPACE_SCALE_PROJECTION;
    return 1;
}
#undef SUBSPACE_RANK

WEFT_FN int subspace_all_coefficients(subspace *a) {
    size_t g;
    a->zero_sums = a->scale_fallbacks = a->restarts = 0;
    for (g = 0; g < a->groups; g++)
        if (!subspace_coefficients(a, g)) return 0;
    return 1;
}

/* The round is over: what it leaves behind. */
WEFT_FN void subspace_count_round(subspace *a) {
    size_t g;
    uint32_t i, out = 0;
    for (g = 0; g < a->groups; g++) {
        uint32_t left = 0;
        for (i = 0; i < a->count; i++) left += a->excluded[g * a->rows + a->who[i]];
        if (left || a->desc.rule != SUBSPACE_NORMALISED) continue; /* the slots are of all workers: they sit it out */
        memcpy(a->slots + g * a->rows, a->new_slots + g * a->rows, a->count * sizeof *a->slots);
        a->slot_count[g] = a->count;
    }
    for (i = 0; i < a->count; i++) {
        for (g = 0; g < a->groups && !a->excluded[g * a->rows + a->who[i]]; g++) continue;
        out += g < a->groups;
    }
    a->stats.nonfinite_gradients += out;
    a->stats.rounds++;
    a->stats.participants = a->count - out;
    a->stats.zero_sums += a->zero_sums;
    a->stats.scale_fallbacks += a->scale_fallbacks;
    a->stats.restarts += a->restarts;
}

/* Whoever's gradient of a group is not finite is marked. Returns how many are new; *lowest: the lowest of their
 * ranks. */
WEFT_FN uint32_t subspace_mark(subspace *a, size_t group, uint32_t *lowest) {
    uint32_t i, found = 0;
    for (i = 0; i < a->count; i++) {
        const uint32_t r = a->who[i];
        if (a->excluded[group * a->rows + r] || weft_is_finite(a->total[group * 2 * a->count + a->count + i])) continue;
        a->excluded[group * a->rows + r] = 1;
        if (r < *lowest) *lowest = r;
        found++;
    }
    return found;
}

WEFT_FN uint32_t subspace_mark_all(subspace *a, uint32_t *lowest) {
    uint32_t found = 0;
    size_t g;
    *lowest = WEFT_NO_RANK;
    for (g = 0; g < a->groups; g++) found += subspace_mark(a, g, lowest);
    return found;
}

/* ---- A round over the transport ---- */

WEFT_FN WEFT_NOINLINE void subspace_phase(subspace *a, int state, const char *phase) {
    a->state = state;
    a->group.phase = phase;
    a->group.phase_round = a->round + 1;
    a->group.may_leave = state == SUBSPACE_IDLE || state == SUBSPACE_MEET || state == SUBSPACE_LEAVING;
}

WEFT_FN void subspace_idle(subspace *a) {
    subspace_phase(a, SUBSPACE_IDLE, WEFT_TEXT("between rounds"));
}

/* Appends positions lo .. end - 1, in chunks. */
WEFT_FN void subspace_append(subspace *a, size_t lo, size_t end, size_t tensor, uint64_t submission) {
    size_t hi;
    for (; lo < end; lo = hi) {
        subspace_chunk *c = &a->chunk[a->chunks];
        hi = end - lo > SUBSPACE_CHUNK ? lo + SUBSPACE_CHUNK : end;
        c->lo = lo;
        c->hi = hi;
        c->tensor = tensor;
        if (a->shared)
            c->slot = lo;
        else if (a->moving)
            c->slot = 0; /* one is home before the next is begun */
        else             /* after the one before, wherever in the model that was: submissions come in any order */
            c->slot = a->chunks ? c[-1].slot + (c[-1].hi - c[-1].lo) + a->rows * WEFT_ALIGNMENT : 0;
        c->unit = 0;
        c->submission = submission;
        a->chunks++;
    }
}

/* Tensors first .. first + count - 1, as one submission. */
WEFT_FN void subspace_append_tensors(subspace *a, size_t first, size_t count) {
    const uint64_t submission = (uint64_t)first << 32 | (uint64_t)count;
    size_t i;
    if (!a->desc.in_place)
        subspace_append(a, a->map.position[first], a->map.position[first + count], first, submission);
    for (i = first; a->desc.in_place && i < first + count; i++) {
        const weft_tensor *t = &a->map.tensor[i];
        subspace_append(a, a->map.position[i], a->map.position[i] + t->count * weft_dtype_bytes(t->dtype), i,
                        submission);
    }
}

WEFT_FN void subspace_cut_shards(const subspace *a, subspace_chunk *c) {
    const size_t each = (c->hi - c->lo + a->count - 1) / a->count;
    c->unit = (each + WEFT_ALIGNMENT - 1) / WEFT_ALIGNMENT * WEFT_ALIGNMENT;
}

WEFT_FN double *subspace_row(subspace *a, uint32_t rank) {
    return a->numbers + (size_t)rank * a->groups * 2 * a->count;
}

WEFT_FN size_t subspace_row_numbers(const subspace *a) {
    return a->groups * 2 * a->count;
}

/* So that sums and products of them stay in range. */
WEFT_FN int subspace_samples_fit(double samples) {
    return samples >= 1e-100 && samples <= 1e100;
}

/* How many samples this worker stands for is told to everybody, and everybody's heard; with shared memory also where
 * the object is. */
WEFT_FN void subspace_begin_meet(subspace *a) {
    weft_group_trace(&a->group, WEFT_EVENT_ROUND_BEGUN, WEFT_NO_RANK, a->round + 1, 0);
    subspace_phase(a, SUBSPACE_MEET, WEFT_TEXT("meeting for a round"));
    if (a->shared) a->theirs[a->group.net->rank] = a;
    weft_gather_begin(&a->group, a->group.member, a->group.members, a->round + 1, 0, a->theirs,
                      a->shared ? sizeof(subspace *) : 0, a->shared ? sizeof(subspace *) : 1,
                      weft_double_bits(a->own_samples));
}

/* Only those still in the view take part: a worker may have said good-bye instead. */
WEFT_FN weft_status subspace_meet_poll(subspace *a) {
    weft_group *n = &a->group;
    weft_status s = weft_group_poll(n);
    size_t i;
    if (s != WEFT_OK) return s;
    a->count = 0;
    for (i = 0; i < n->members; i++) {
        const uint32_t r = n->member[i];
        double samples = a->own_samples;
        if (r != n->net->rank) memcpy(&samples, &n->peer[r].in_arg, sizeof samples);
        if (!subspace_samples_fit(samples))
            return weft_group_break(n, WEFT_ERR_PROTOCOL, r, WEFT_TEXT("samples"), weft_double_bits(1.0),
                                    weft_double_bits(samples));
        a->samples[r] = samples;
        if (r == n->net->rank) a->self = a->count;
        a->who[a->count++] = r;
    }
    for (i = 0; i < subspace_row_numbers(a); i++) a->total[i] = subspace_row(a, n->net->rank)[i] = 0.0;
    if (a->desc.rule == SUBSPACE_MEAN) subspace_all_coefficients(a);
    subspace_phase(a, SUBSPACE_SCATTER, WEFT_TEXT("exchanging gradients"));
    return WEFT_OK;
}

/* A word to and from every participant. */
WEFT_FN void subspace_begin_word(subspace *a, uint32_t step, uint64_t word) {
    weft_gather_begin(&a->group, a->who, a->count, a->round + 1, step, NULL, 0, 1, word);
}

/* Shard i of this worker's gradient goes to participant i, and this worker's shard of everybody's comes here. With
 * shared memory everyone says that the chunk may be read. */
WEFT_FN void subspace_begin_scatter(subspace *a, subspace_chunk *c) {
    const weft_tensor *t = a->desc.gradients.tensor;
    size_t lo, hi;
    uint32_t i;
    subspace_cut_shards(a, c);
    a->in_flight = 1;
    if (a->shared) {
        subspace_begin_word(a, ++a->step, c->submission);
        return;
    }
    WEFT_GPU_SETTLE(a->map); /* what is sent has been written, and what was in the mirror, used */
    lo = subspace_shard(c, a->self);
    hi = subspace_shard(c, a->self + 1);
    weft_group_begin(&a->group, WEFT_KIND_EXCHANGE, a->round + 1, ++a->step);
    for (i = 0; i < a->count; i++) {
        weft_range out = weft_range_map(&a->map, t, NULL, 0, subspace_shard(c, i), subspace_shard(c, i + 1));
        weft_range in = weft_range_map(&a->map, NULL, a->mirror + c->slot + i * c->unit, lo, lo, hi);
        if (i != a->self) weft_group_flow(&a->group, a->who[i], &out, &in, c->submission);
    }
}

/* Moving: the pieces of a chunk that has arrived take the places of the shards that have gone. */
WEFT_FN void subspace_bring_home(subspace *a, const subspace_chunk *c) {
    const size_t length = subspace_shard(c, a->self + 1) - subspace_shard(c, a->self), fits = subspace_fits(c);
    uint32_t i;
    for (i = 0; a->moving && i < a->count; i++) {
        size_t at = i * c->unit, end = at + length, part;
        for (; i != a->self && at < end; at += part) {
            part = at < fits && fits < end ? fits - at : end - at;
            weft_data_copy(WEFT_GPU_IN(a->map), subspace_home(a, c, at), a->mirror + c->slot + at, part);
        }
    }
}

/* The aggregate's own shard goes to all, and theirs come here. With shared memory everyone says that it may be read. */
WEFT_FN void subspace_begin_gather(subspace *a, const subspace_chunk *c) {
    const size_t lo = subspace_shard(c, a->self), hi = subspace_shard(c, a->self + 1);
    const weft_tensor *t = a->desc.gradients.tensor; /* where there is no mirror */
    unsigned char *mirror = a->desc.in_place ? NULL : a->mirror + c->slot;
    uint32_t i;
    a->in_flight = 1;
    if (a->shared) {
        subspace_begin_word(a, ++a->step, a->nonfinite != 0);
        return;
    }
    weft_group_begin(&a->group, WEFT_KIND_EXCHANGE, a->round + 1, ++a->step);
    for (i = 0; i < a->count; i++) {
        weft_range out = weft_range_map(&a->map, t, mirror, c->lo, lo, hi);
        weft_range in = weft_range_map(&a->map, t, mirror, c->lo, subspace_shard(c, i), subspace_shard(c, i + 1));
        if (i != a->self) weft_group_flow(&a->group, a->who[i], &out, &in, a->nonfinite != 0);
    }
}

WEFT_FN void subspace_own_mix(subspace *a, const subspace_chunk *c) {
    subspace_mix_chunk(a, c, a->self, a->desc.in_place ? NULL : a->mirror + c->slot + a->self * c->unit,
                       a->desc.gradients.tensor, SUBSPACE_ALL_GROUPS);
}

/* The plain mean is formed as soon as a chunk is here, but for in place: then not before all are known to be finite. */
WEFT_FN int subspace_mixes_early(const subspace *a) {
    return a->desc.rule == SUBSPACE_MEAN && !a->desc.in_place;
}

/* A chunk is here: its numbers, or the mean at once. */
WEFT_FN void subspace_own_sum(subspace *a, const subspace_chunk *c) {
    const uint64_t before = a->nonfinite;
    if (subspace_mixes_early(a)) subspace_own_mix(a, c);
    if (!subspace_mixes_early(a) || a->nonfinite != before)
        subspace_sum_chunk(a, c, a->self, subspace_row(a, a->group.net->rank), SUBSPACE_ALL_GROUPS);
}

WEFT_FN void subspace_begin_numbers(subspace *a) {
    subspace_phase(a, SUBSPACE_NUMBERS, WEFT_TEXT("exchanging dots and norms"));
    weft_gather_begin(&a->group, a->who, a->count, a->round + 1, ++a->step, a->numbers,
                      subspace_row_numbers(a) * sizeof(double), sizeof(double), 0);
}

/* Polls an exchange in which everybody must have the same range under way; 0: none any more. */
WEFT_FN weft_status subspace_poll_range(subspace *a, uint64_t submission) {
    weft_group *n = &a->group;
    const weft_status s = weft_group_poll(n);
    uint32_t i;
    for (i = 0; s >= 0 && i < a->count; i++) {
        const weft_peer *p = &n->peer[a->who[i]];
        if (i != a->self && p->in.state != WEFT_FLOW_WAITING && p->in_arg != submission)
            return weft_group_break(n, WEFT_ERR_MISMATCH, a->who[i], WEFT_TEXT("range submitted (first << 32 | count)"),
                                    submission, p->in_arg);
    }
    return s;
}

/* Another range is as a rule of another length, too, which is noticed first: the host is told of the range. */
WEFT_FN weft_status subspace_explain(subspace *a, weft_status s) {
    weft_group *n = &a->group;
    const uint32_t r = n->broken.peer;
    if (s != WEFT_ERR_PROTOCOL || n->failed != s || r >= n->net->size ||
        (a->state != SUBSPACE_SCATTER && a->state != SUBSPACE_NUMBERS) || n->peer[r].control != WEFT_IN_HELD ||
        n->peer[r].head.kind != WEFT_KIND_EXCHANGE || n->peer[r].head.round != n->round ||
        n->peer[r].head.step != n->step || n->peer[r].head.arg0 == n->peer[r].out_arg)
        return s;
    return weft_group_break(n, WEFT_ERR_MISMATCH, r, WEFT_TEXT("range submitted (first << 32 | count)"),
                            n->peer[r].out_arg, n->peer[r].head.arg0);
}

/* Chunk by chunk: while one is under way, the one before is summed. */
WEFT_FN weft_status subspace_scatter_poll(subspace *a) {
    weft_group *n = &a->group;
    weft_status s;
    for (;;) {
        if (a->in_flight && a->summed + 1 == a->begun) { /* nothing to sum meanwhile */
            if ((s = subspace_poll_range(a, a->chunk[a->begun - 1].submission)) != WEFT_OK) return s;
            subspace_bring_home(a, &a->chunk[a->begun - 1]);
            a->in_flight = 0;
        }
        if (!a->in_flight && a->begun < a->chunks) subspace_begin_scatter(a, &a->chunk[a->begun++]);
        if (a->summed + (uint32_t)a->in_flight < a->begun) {
            if ((s = weft_group_pump(n)) < 0) return s; /* so that what was just begun is under way */
            subspace_own_sum(a, &a->chunk[a->summed++]);
            continue;
        }
        if (a->in_flight) continue;
        if (!a->waiting) {
            subspace_begin_numbers(a);
            return WEFT_OK;
        }
        return (s = weft_group_pump(n)) < 0 ? s : WEFT_WANT_GRADIENT;
    }
}

/* This round comes to nothing: are the gradients what they were? With shared memory others write them from `written`
 * on. */
WEFT_FN void subspace_lose(subspace *a, int written) {
    if (a->moving) /* a chunk under way is not home yet */
        a->lost |= a->begun > (a->state == SUBSPACE_SCATTER ? (uint32_t)a->in_flight : 0u);
    if (a->shared && a->desc.in_place) a->lost |= a->state >= written;
}

/* All workers agree that this round comes to nothing. */
WEFT_FN weft_status subspace_reject(subspace *a, uint32_t rank, const char *field) {
    if (!a->set) { /* the others know nothing of what is combined here */
        a->round++;
        a->settled = weft_round_id(a->round, a->group.epoch);
    }
    subspace_lose(a, SUBSPACE_GATHER);
    a->stats.rounds_abandoned++;
    a->stats.nonfinite_gradients++;
    weft_group_trace(&a->group, WEFT_EVENT_ABANDONED, WEFT_NO_RANK, a->round, 0);
    weft_group_fail(&a->group, WEFT_ERR_NONFINITE, rank, field, 0, 0);
    subspace_forget(a);
    a->count = 0;
    subspace_idle(a);
    return WEFT_ERR_NONFINITE;
}

/* The numbers are here: added in rank order, so that all workers sort the same bits. */
WEFT_FN weft_status subspace_numbers_poll(subspace *a) {
    const weft_status s = subspace_poll_range(a, 0);
    const size_t n = subspace_row_numbers(a);
    size_t k;
    uint32_t i, lowest;
    if (s != WEFT_OK) return s;
    for (k = 0; k < n; k++) {
        a->total[k] = 0.0;
        for (i = 0; i < a->count; i++) a->total[k] += subspace_row(a, a->who[i])[k];
    }
    if (subspace_mark_all(a, &lowest)) {
        if (a->desc.guard == SUBSPACE_GUARD_REJECT) return subspace_reject(a, lowest, WEFT_TEXT("gradient"));
        /* once more without them: their values are in the others' numbers. The pieces are all still here. */
        a->attempts++;
        a->nonfinite = 0;
        for (k = 0; k < n; k++) subspace_row(a, a->group.net->rank)[k] = 0.0;
        if (a->desc.rule == SUBSPACE_MEAN && !subspace_all_coefficients(a))
            return subspace_reject(a, lowest, WEFT_TEXT("gradient"));
        for (i = 0; i < a->chunks; i++) subspace_own_sum(a, &a->chunk[i]);
        subspace_begin_numbers(a);
        return WEFT_OK;
    }
    if (!subspace_all_coefficients(a)) return subspace_reject(a, WEFT_NO_RANK, WEFT_TEXT("gradients of a group"));
    if (subspace_mixes_early(a))
        a->mixed = a->chunks;
    else
        a->nonfinite = 0;
    subspace_phase(a, SUBSPACE_GATHER, WEFT_TEXT("exchanging the aggregate"));
    return WEFT_OK;
}

/* Elements that are not finite in a shard of the aggregate that has come: whoever formed it has looked, but it has
 * crossed the wire since. */
WEFT_FN uint64_t subspace_count_shard(const subspace *a, const subspace_chunk *c, uint32_t shard) {
    weft_range at = weft_range_map(&a->map, a->desc.gradients.tensor, a->desc.in_place ? NULL : a->mirror + c->slot,
                                   c->lo, subspace_shard(c, shard), subspace_shard(c, shard + 1));
    unsigned char *p;
    size_t each, which, bytes;
    uint64_t n = 0;
    while ((bytes = weft_range_next(&at, SIZE_MAX, &p, &each, &which)) != 0)
        n += weft_run_count_nonfinite(a->kernels, a->desc.pool, a->map.tensor[which].dtype, bytes / each, p);
    return n;
}

/* Chunk by chunk, the last one, which is still in the cache, first: while one is under way, the next one is formed. */
WEFT_FN weft_status subspace_gather_poll(subspace *a) {
    weft_status s;
    uint32_t i;
    for (;;) {
        if (a->in_flight) {
            if (a->mixed < a->chunks && a->mixed == a->gathered + 1) {
                if ((s = weft_group_pump(&a->group)) < 0) return s;
                subspace_own_mix(a, &a->chunk[a->chunks - 1 - a->mixed++]);
            }
            if ((s = weft_group_poll(&a->group)) != WEFT_OK) return s;
            /* whoever has all of the aggregate also knows whether all of it is finite */
            for (i = 0; i < a->count; i++) {
                if (i == a->self) continue;
                if (a->group.peer[a->who[i]].in_arg)
                    a->nonfinite++;
                else if (!a->shared && subspace_count_shard(a, &a->chunk[a->chunks - 1 - a->gathered], i))
                    return weft_group_break(&a->group, WEFT_ERR_PROTOCOL, a->who[i],
                                            WEFT_TEXT("aggregate (not finite)"), 0, 1);
            }
            a->in_flight = 0;
            a->gathered++;
        }
        if (a->gathered == a->chunks) break;
        if (a->mixed == a->gathered) subspace_own_mix(a, &a->chunk[a->chunks - 1 - a->mixed++]);
        subspace_begin_gather(a, &a->chunk[a->chunks - 1 - a->gathered]);
    }
    subspace_phase(a, SUBSPACE_HAVE, WEFT_TEXT("telling that it is here"));
    a->have = a->nonfinite ? 0 : weft_round_id(a->round + 1, a->group.epoch);
    subspace_begin_word(a, WEFT_STEP_HAVE, 0);
    return WEFT_OK;
}

/* The only place where a round writes the host's gradients, but for in place. */
WEFT_FN void subspace_commit(subspace *a) {
    unsigned char *to;
    size_t each, which, bytes;
    uint32_t i, shard;
    for (i = 0; i < a->chunks && !a->desc.in_place; i++) {
        const subspace_chunk *c = &a->chunk[i];
        for (shard = 0; shard < a->count; shard++) {
            const unsigned char *mirror = a->shared ? a->theirs[a->who[shard]]->mirror : a->mirror;
            weft_range at = weft_range_map(&a->map, a->desc.gradients.tensor, NULL, 0, subspace_shard(c, shard),
                                           subspace_shard(c, shard + 1));
            while ((bytes = weft_range_next(&at, SIZE_MAX, &to, &each, &which)) != 0)
                weft_data_copy(WEFT_GPU_IN(a->map), to, mirror + c->slot + (at.at - bytes - c->lo), bytes);
        }
    }
    a->round++;
    a->lost = 0;
    a->averaged = a->settled = a->have;
    subspace_count_round(a);
    weft_group_trace(&a->group, WEFT_EVENT_COMMITTED, WEFT_NO_RANK, a->round, a->count);
    subspace_forget(a);
    subspace_idle(a);
}

/* Nobody's memory is looked at any more once all have said so: whoever goes may go. */
WEFT_FN void subspace_begin_copied(subspace *a, const uint32_t *who, uint32_t count) {
    subspace_phase(a, SUBSPACE_COPIED, WEFT_TEXT("telling that it is copied"));
    a->group.phase_round = a->round;
    weft_gather_begin(&a->group, who, count, a->round, SUBSPACE_STEP_COPIED, NULL, 0, 1, 0);
}

WEFT_FN weft_status subspace_then(subspace *a);

WEFT_FN weft_status subspace_copied_poll(subspace *a) {
    const weft_status s = weft_group_poll(&a->group);
    if (s != WEFT_OK) return s;
    subspace_idle(a);
    return subspace_then(a);
}

WEFT_FN weft_status subspace_have_poll(subspace *a) {
    const weft_status s = weft_group_poll(&a->group);
    if (s != WEFT_OK) return s;
    if (a->nonfinite) return subspace_reject(a, WEFT_NO_RANK, WEFT_TEXT("aggregate (overflow)"));
    subspace_commit(a);
    if (a->shared && !a->desc.in_place) subspace_begin_copied(a, a->who, a->count);
    return WEFT_OK;
}

/* ---- First contact, and new views ---- */

WEFT_FN int subspace_in_round(const subspace *a) {
    return a->state >= SUBSPACE_MEET && a->state <= SUBSPACE_HAVE;
}

WEFT_FN void subspace_begin_sync(subspace *a) {
    uint64_t *f = a->sync.mine;
    /* a second loss before the first is settled changes nothing about the round that was cut short */
    if (a->state != SUBSPACE_SYNC) {
        a->cut = subspace_in_round(a);
        if (a->cut) subspace_lose(a, SUBSPACE_NUMBERS); /* others may be ahead */
    }
    f[WEFT_SYNC_COMMITTED] = a->settled;
    f[WEFT_SYNC_HAVE] = a->have;
    f[WEFT_SYNC_FRESH] = a->joined ? 0 : SUBSPACE_SYNC_FRESH;
    f[WEFT_SYNC_HASH] = a->averaged;
    subspace_phase(a, SUBSPACE_SYNC, WEFT_TEXT("agreeing on a view"));
    weft_sync_begin(&a->sync, &a->group);
    a->group.phase_round = a->round;
}

WEFT_FN weft_status subspace_sync_poll(subspace *a) {
    weft_group *n = &a->group;
    weft_status s = weft_sync_poll(&a->sync, n);
    uint64_t averaged = 0;
    uint32_t i;
    int behind = 0, copies = 0;
    size_t g;
    if (s != WEFT_OK) return s;
    for (i = 0; i < n->members; i++) {
        const uint32_t r = n->member[i];
        const uint64_t have = weft_sync_field(&a->sync, r, WEFT_SYNC_HAVE);
        const int commits = weft_sync_commits(&a->sync, have);
        const uint64_t id = commits ? have : weft_sync_field(&a->sync, r, WEFT_SYNC_HASH);
        if (!i) averaged = id;
        behind |= (weft_sync_field(&a->sync, r, WEFT_SYNC_FRESH) & SUBSPACE_SYNC_FRESH) != 0 || id != averaged;
        copies |= commits;
    }
    if (a->cut && weft_sync_commits(&a->sync, a->have)) {
        a->wanting = 0;
        subspace_commit(a);
    } else if (a->cut) {
        a->stats.rounds_abandoned++;
        a->wanting = 1;
        weft_group_trace(n, WEFT_EVENT_ABANDONED, WEFT_NO_RANK, a->round + 1, 0);
        subspace_forget(a);
        a->count = 0;
    }
    /* whoever is new, or was away while the others went on, has not their slots: then nobody has any */
    for (g = 0; g < a->groups && behind; g++) {
        a->stats.restarts += a->slot_count[g] != 0;
        a->slot_count[g] = 0;
    }
    if (behind) a->averaged = 0; /* whoever has not come to the end of this agreement still has them */
    a->joined = 1;
    a->cut = 0;
    a->round = a->sync.committed;
    a->settled = a->sync.committed_id;
    a->have = 0;
    if (copies && a->shared && !a->desc.in_place) {
        subspace_begin_copied(a, n->member, n->members);
        return WEFT_OK;
    }
    subspace_idle(a);
    return subspace_then(a);
}

/* ---- Leaving, and driving ---- */

WEFT_FN void subspace_begin_leave(subspace *a) {
    subspace_phase(a, SUBSPACE_LEAVING, WEFT_TEXT("saying good-bye"));
}

WEFT_FN weft_status subspace_leaving_poll(subspace *a) {
    weft_status s = weft_group_pump(&a->group);
    if (s != WEFT_OK || (s = weft_group_leave(&a->group, a->round + 1)) != WEFT_OK) return s;
    subspace_phase(a, SUBSPACE_LEFT, WEFT_TEXT("gone"));
    return WEFT_OK;
}

WEFT_FN weft_status subspace_then(subspace *a) {
    const int then = a->then;
    a->then = SUBSPACE_THEN_IDLE;
    if (then == SUBSPACE_THEN_ROUND && !a->wanting) subspace_begin_meet(a);
    if (then == SUBSPACE_THEN_LEAVE) subspace_begin_leave(a);
    return WEFT_OK;
}

/* One phase after the other until one has to wait. */
WEFT_FN weft_status subspace_drive(subspace *a) {
    weft_status s = WEFT_OK;
    while (s == WEFT_OK) {
        switch (a->state) {
        case SUBSPACE_IDLE:
            s = a->group.synced || a->group.failed ? weft_group_pump(&a->group) : WEFT_OK;
            return s == WEFT_OK && a->wanting ? WEFT_WANT_GRADIENT : s;
        case SUBSPACE_SYNC: s = subspace_sync_poll(a); break;
        case SUBSPACE_MEET: s = subspace_meet_poll(a); break;
        case SUBSPACE_SCATTER: s = subspace_scatter_poll(a); break;
        case SUBSPACE_NUMBERS: s = subspace_numbers_poll(a); break;
        case SUBSPACE_GATHER: s = subspace_gather_poll(a); break;
        case SUBSPACE_HAVE: s = subspace_have_poll(a); break;
        case SUBSPACE_COPIED: s = subspace_copied_poll(a); break;
        case SUBSPACE_LEAVING: s = subspace_leaving_poll(a); break;
        default: return WEFT_OK;
        }
    }
    return subspace_explain(a, s);
}

/* ---- Verbs ---- */

#define SUBSPACE_ONLY_IDLE (1u << SUBSPACE_IDLE)
#define SUBSPACE_ANY_LIVE ((1u << SUBSPACE_LEFT) - 1u)
/* COPIED: of a round that was submitted while a view was being agreed on */
#define SUBSPACE_SUBMITTING                                                                                            \
    (1u << SUBSPACE_IDLE | 1u << SUBSPACE_SYNC | 1u << SUBSPACE_MEET | 1u << SUBSPACE_SCATTER | 1u << SUBSPACE_COPIED)

/* A verb begins. `states`: bit a state in which it is legal. Ends with subspace_exit. */
WEFT_FN weft_status subspace_enter(subspace *a, uint32_t states) {
    if (!a || a->magic != SUBSPACE_MAGIC) return WEFT_ERR_ARGUMENT;
    if (a->group.busy) return WEFT_ERR_REENTRY;
    if (!(states >> a->state & 1u))
        return weft_group_fail(&a->group, WEFT_ERR_ORDER, WEFT_NO_RANK, WEFT_TEXT("state"), states, (uint64_t)a->state);
    a->group.busy = 1;
    a->group.detail = weft_detail_none();
    return WEFT_OK;
}

WEFT_FN WEFT_NOINLINE weft_status subspace_exit(subspace *a, weft_status s) {
    const weft_status device = WEFT_GPU_BREAKS_GROUP(&a->group);
    a->group.busy = 0;
    if (device < 0) s = device; /* whatever else came of it */
    if (s > 0) a->group.detail.status = s;
    return s;
}

WEFT_FN weft_status subspace_refuse(subspace *a, weft_status s, const char *field, uint64_t expected, uint64_t got) {
    return subspace_exit(a, weft_group_fail(&a->group, s, WEFT_NO_RANK, field, expected, got));
}

/* Tensors first .. first + count - 1, none of which is submitted yet, are. Begins the round if they are the first. */
WEFT_FN void subspace_take(subspace *a, size_t first, size_t count) {
    memset(a->submitted + first, 1, count);
    a->waiting -= count;
    subspace_append_tensors(a, first, count);
    if (!a->cut) a->lost = 0; /* else it is of the round that was cut short */
    if (a->state == SUBSPACE_SYNC && !a->cut) a->then = SUBSPACE_THEN_ROUND;
    if (a->state == SUBSPACE_IDLE || a->then == SUBSPACE_THEN_ROUND) a->wanting = 0;
    if (a->state != SUBSPACE_IDLE) return;
    if (a->group.synced) {
        subspace_begin_meet(a);
    } else {
        a->then = SUBSPACE_THEN_ROUND;
        subspace_begin_sync(a);
    }
}

SUBSPACE_API weft_status subspace_submit(subspace *a, size_t first, size_t count) {
    weft_status s = subspace_enter(a, SUBSPACE_SUBMITTING);
    size_t i;
    if (s != WEFT_OK) return s;
    if (!a->desc.transport) return subspace_refuse(a, WEFT_ERR_UNSUPPORTED, WEFT_TEXT("transport"), 1, 0);
    if (a->then == SUBSPACE_THEN_LEAVE || (a->state == SUBSPACE_COPIED && a->then != SUBSPACE_THEN_ROUND))
        return subspace_refuse(a, WEFT_ERR_ORDER, WEFT_TEXT("state (leaving)"), 0, 1);
    if (first > a->desc.gradients.count || count > a->desc.gradients.count - first)
        return subspace_refuse(a, WEFT_ERR_ARGUMENT, WEFT_TEXT("range of tensors"), a->desc.gradients.count,
                               first > a->desc.gradients.count ? first : first + count);
    for (i = first; i < first + count; i++)
        if (a->submitted[i]) return subspace_refuse(a, WEFT_ERR_ORDER, WEFT_TEXT("tensor (submitted)"), 0, i);
    if (a->group.failed) { /* as if it had been begun and cut short: after a regroup it is wanted again */
        a->wanting = count || !a->desc.gradients.count || a->wanting;
        return subspace_exit(a, weft_group_pump(&a->group));
    }
    if (count || !a->desc.gradients.count) subspace_take(a, first, count);
    return subspace_exit(a, subspace_drive(a));
}

SUBSPACE_API weft_status subspace_aggregate(subspace *a) {
    weft_status s = WEFT_OK;
    size_t first, count = a ? a->desc.gradients.count : 0, end;
    if (a && a->magic == SUBSPACE_MAGIC && count == 0) s = subspace_submit(a, 0, 0);
    if (!a || a->magic != SUBSPACE_MAGIC) return WEFT_ERR_ARGUMENT;
    for (first = 0; first < count && s >= 0; first = end) {
        for (end = first; end < count && a->submitted[end] == a->submitted[first]; end++) continue;
        if (a->submitted[first]) continue;
        s = subspace_submit(a, first, end - first);
        if (s == WEFT_OK) return s; /* it was the last, and all is done: the marks are of the next round */
    }
    return s < 0 ? s : subspace_wait(a);
}

SUBSPACE_API weft_status subspace_poll(subspace *a) {
    weft_status s = subspace_enter(a, SUBSPACE_ANY_LIVE | 1u << SUBSPACE_LEFT);
    return s != WEFT_OK ? s : subspace_exit(a, subspace_drive(a));
}

SUBSPACE_API weft_status subspace_wait(subspace *a) {
    for (;;) {
        weft_status s = subspace_poll(a);
        const weft_transport *net;
        uint64_t until = UINT64_MAX;
        if (s != WEFT_AGAIN) return s;
        net = a->group.net;
        if (!net->wait) continue;
        if (net->now && a->desc.timeout_ns) {
            const uint64_t now = net->now(net->ctx);
            if (a->desc.timeout_ns < until - now) until = now + a->desc.timeout_ns;
        }
        net->wait(net->ctx, until);
    }
}

/* Where the tensors of a group (or all of them) stand in the map, from the first to the last of them: with many groups
 * nobody looks through everything for each. */
WEFT_FN void subspace_extent(const subspace *a, long only, size_t *lo, size_t *hi) {
    size_t i, first = a->desc.gradients.count, end = 0;
    for (i = 0; i < a->desc.gradients.count; i++) {
        if (only != SUBSPACE_ALL_GROUPS && a->group_of && a->group_of[i] != (uint32_t)only) continue;
        if (i < first) first = i;
        end = i + 1;
    }
    *lo = a->map.position[first];
    *hi = a->map.position[end];
}

/* Everyone's numbers of a group (or all of them), shard by shard as the workers would have taken them. */
WEFT_FN void subspace_combine_numbers(subspace *a, long only) {
    const size_t n = subspace_row_numbers(a), from = only < 0 ? 0 : (size_t)only * 2 * a->count;
    const size_t to = only < 0 ? n : from + 2 * a->count;
    uint32_t r, i;
    size_t k, lo, hi;
    subspace_extent(a, only, &lo, &hi);
    for (k = from; k < to; k++) a->total[k] = 0.0;
    for (r = 0; r < a->count; r++) {
        for (k = from; k < to; k++) a->numbers[k] = 0.0;
        for (i = 0; i < a->chunks; i++)
            if (subspace_shard(&a->chunk[i], r) < hi && subspace_shard(&a->chunk[i], r + 1) > lo)
                subspace_sum_chunk(a, &a->chunk[i], r, a->numbers, only);
        for (k = from; k < to; k++) a->total[k] += a->numbers[k];
    }
}

WEFT_FN void subspace_combine_mix(subspace *a, const weft_tensor *to, long only) {
    uint32_t r, i;
    size_t lo, hi;
    subspace_extent(a, only, &lo, &hi);
    for (i = a->chunks; i-- > 0;) /* what was read last is in the cache */
        for (r = a->count; r-- > 0;)
            if (subspace_shard(&a->chunk[i], r) < hi && subspace_shard(&a->chunk[i], r + 1) > lo)
                subspace_mix_chunk(a, &a->chunk[i], r, NULL, to, only);
}

/* Is `out` none of the gradients? */
WEFT_FN int subspace_apart(const subspace *a, const weft_tensors *out) {
    uint32_t i;
    size_t k;
    for (k = 0; k < out->count; k++)
        for (i = 0; i < a->count; i++)
            if (out->tensor[k].count && a->set[i].tensor[k].data == out->tensor[k].data) return 0;
    return 1;
}

WEFT_FN weft_status subspace_combine_all(subspace *a, const weft_tensors *out) {
    uint32_t lowest = WEFT_NO_RANK;
    const long groups = (long)a->groups;
    size_t k;
    long g;
    a->zero_sums = a->scale_fallbacks = a->restarts = 0;
    if (a->desc.rule == SUBSPACE_MEAN && a->desc.guard != SUBSPACE_GUARD_REJECT && subspace_apart(a, out)) {
        /* the result tells whether all are finite */
        for (k = 0; k < subspace_row_numbers(a); k++) a->total[k] = 0.0;
        subspace_all_coefficients(a);
        subspace_combine_mix(a, out->tensor, SUBSPACE_ALL_GROUPS);
        if (!a->nonfinite) return WEFT_OK;
        a->nonfinite = 0;
    }
    /* nothing may be written before everybody is known to be finite */
    if (a->desc.guard == SUBSPACE_GUARD_REJECT) {
        subspace_combine_numbers(a, SUBSPACE_ALL_GROUPS);
        if (subspace_mark_all(a, &lowest)) return subspace_reject(a, lowest, WEFT_TEXT("gradient"));
    }
    for (g = 0; g < groups; g++) {
        if (a->desc.guard != SUBSPACE_GUARD_REJECT) {
            subspace_combine_numbers(a, g);
            if (subspace_mark(a, (size_t)g, &lowest)) subspace_combine_numbers(a, g);
        }
        if (!subspace_coefficients(a, (size_t)g))
            return subspace_reject(a, WEFT_NO_RANK, WEFT_TEXT("gradients of a group"));
        subspace_combine_mix(a, out->tensor, g);
    }
    return WEFT_OK;
}

SUBSPACE_API weft_status subspace_combine(subspace *a, const weft_tensors *gradients, uint32_t n, const double *samples,
                                          const weft_tensors *out) {
    weft_status s = subspace_enter(a, SUBSPACE_ONLY_IDLE);
    uint32_t i;
    size_t k;
    if (s != WEFT_OK) return s;
    if (!n || n > a->desc.here || !gradients || !out)
        return subspace_refuse(a, WEFT_ERR_ARGUMENT, WEFT_TEXT("gradients, n, out"), a->desc.here, n);
    for (i = 0; i <= n; i++) {
        const weft_tensors *t = i < n ? &gradients[i] : out;
        if ((s = weft_tensors_check(t, 0, &a->group.detail)) != WEFT_OK ||
            (s = weft_tensors_match(&a->desc.gradients, t, &a->group.detail)) != WEFT_OK)
            return subspace_exit(a, s);
        for (k = 0; k < t->count; k++)
            if (t->tensor[k].dtype != a->desc.gradients.tensor[k].dtype)
                return subspace_refuse(a, WEFT_ERR_ARGUMENT, WEFT_TEXT("tensor.dtype"),
                                       (uint64_t)a->desc.gradients.tensor[k].dtype, (uint64_t)t->tensor[k].dtype);
    }
    for (i = 0; i < n; i++) {
        const double v = samples ? samples[i] : 1.0;
        if (!subspace_samples_fit(v))
            return subspace_refuse(a, WEFT_ERR_ARGUMENT, WEFT_TEXT("samples"), weft_double_bits(1.0),
                                   weft_double_bits(v));
        a->samples[i] = v;
        a->who[i] = i;
    }
    subspace_forget(a);
    a->count = n;
    a->set = gradients;
    if (!WEFT_GPU_IN(a->map)) a->mixing = weft_kernels_select(a->desc.isa, weft_map_bytes(&a->map));
    subspace_append_tensors(a, 0, a->desc.gradients.count);
    for (i = 0; i < a->chunks; i++) subspace_cut_shards(a, &a->chunk[i]);
    s = subspace_combine_all(a, out);
    if (s == WEFT_OK && a->nonfinite) s = subspace_reject(a, WEFT_NO_RANK, WEFT_TEXT("aggregate (overflow)"));
    a->set = NULL;
    a->mixing = a->kernels;
    if (s == WEFT_OK) {
        subspace_count_round(a);
        subspace_forget(a);
    }
    return subspace_exit(a, s);
}

SUBSPACE_API weft_status subspace_set_batch(subspace *a, double samples) {
    weft_status s = subspace_enter(a, SUBSPACE_ONLY_IDLE);
    if (s != WEFT_OK) return s;
    if (!subspace_samples_fit(samples))
        return subspace_refuse(a, WEFT_ERR_ARGUMENT, WEFT_TEXT("samples"), weft_double_bits(1.0),
                               weft_double_bits(samples));
    a->own_samples = samples;
    return subspace_exit(a, WEFT_OK);
}

SUBSPACE_API weft_status subspace_leave(subspace *a) {
    weft_status s = subspace_enter(a, SUBSPACE_ONLY_IDLE);
    if (s != WEFT_OK) return s;
    if (a->group.failed) return subspace_exit(a, weft_group_pump(&a->group));
    a->wanting = 0;
    if (a->group.synced) {
        subspace_begin_leave(a);
    } else {
        a->then = SUBSPACE_THEN_LEAVE;
        subspace_begin_sync(a);
    }
    return subspace_exit(a, subspace_drive(a));
}

WEFT_FN weft_status subspace_check_rank(subspace *a, uint32_t rank) {
    if (rank < a->group.net->size && rank != a->group.net->rank) return WEFT_OK;
    return weft_group_fail(&a->group, WEFT_ERR_ARGUMENT, rank, WEFT_TEXT("rank"), a->group.net->size, rank);
}

SUBSPACE_API weft_status subspace_peer_lost(subspace *a, uint32_t rank) {
    weft_status s = subspace_enter(a, SUBSPACE_ANY_LIVE);
    if (s != WEFT_OK) return s;
    if ((s = subspace_check_rank(a, rank)) == WEFT_OK) weft_group_lose(&a->group, rank);
    return subspace_exit(a, s);
}

SUBSPACE_API weft_status subspace_peer_up(subspace *a, uint32_t rank) {
    weft_status s = subspace_enter(a, SUBSPACE_ANY_LIVE);
    if (s != WEFT_OK) return s;
    if ((s = subspace_check_rank(a, rank)) == WEFT_OK) a->group.peer[rank].lost = a->group.peer[rank].left = 0;
    return subspace_exit(a, s);
}

SUBSPACE_API weft_status subspace_regroup(subspace *a, const weft_view *view) {
    weft_status s = subspace_enter(a, SUBSPACE_ANY_LIVE);
    if (s != WEFT_OK) return s;
    if ((s = weft_group_check_view(&a->group, view)) != WEFT_OK) return subspace_exit(a, s);
    /* what was submitted before first contact is a round that has not begun: it begins after this, or if only a part of
     * it was, all of it is wanted again */
    if (a->state != SUBSPACE_SYNC && a->state != SUBSPACE_COPIED && a->state != SUBSPACE_LEAVING)
        a->then = SUBSPACE_THEN_IDLE;
    if (a->then == SUBSPACE_THEN_ROUND && a->waiting) {
        subspace_forget(a);
        a->wanting = 1;
        a->then = SUBSPACE_THEN_IDLE;
    }
    if (a->state == SUBSPACE_LEAVING) a->then = SUBSPACE_THEN_LEAVE;
    weft_group_set_view(&a->group, view);
    subspace_begin_sync(a);
    return subspace_exit(a, subspace_drive(a));
}

/* ---- Saved state ---- */

/* All of it in order: measured, written and read by the same lines. */
WEFT_FN void subspace_blob(subspace *a, weft_blob *b) {
    size_t i;
    uint64_t count;
    weft_blob_u64(b, &a->round);
    weft_blob_u64(b, &a->settled);
    weft_blob_u64(b, &a->stats.rounds);
    weft_blob_u64(b, &a->stats.rounds_abandoned);
    weft_blob_u64(b, &a->stats.participants);
    weft_blob_u64(b, &a->stats.nonfinite_gradients);
    weft_blob_u64(b, &a->stats.zero_sums);
    weft_blob_u64(b, &a->stats.scale_fallbacks);
    weft_blob_u64(b, &a->stats.restarts);
    weft_blob_double(b, &a->own_samples);
    for (i = 0; i < a->groups; i++) {
        count = a->slot_count[i];
        weft_blob_u64(b, &count);
        a->slot_count[i] = count <= a->rows ? (uint32_t)count : UINT32_MAX;
    }
    for (i = 0; i < a->groups * a->rows; i++) weft_blob_double(b, &a->slots[i]);
}

WEFT_FN size_t subspace_blob_bytes(subspace *a) {
    weft_blob b;
    memset(&b, 0, sizeof b);
    b.at = WEFT_BLOB_HEAD;
    subspace_blob(a, &b);
    return b.at + WEFT_BLOB_TAIL;
}

SUBSPACE_API weft_status subspace_save_to(subspace *a, weft_write_fn write, void *ctx, size_t *bytes) {
    weft_blob b;
    weft_detail why = weft_detail_none();
    size_t g, k;
    weft_status s = subspace_enter(a, SUBSPACE_ONLY_IDLE);
    if (s != WEFT_OK) return s;
    for (g = 0; g < a->groups; g++) /* what is not in use is zero */
        for (k = a->slot_count[g]; k < a->rows; k++) a->slots[g * a->rows + k] = 0.0;
    s = weft_blob_begin(&b, write, ctx, subspace_blob_bytes(a), subspace_blob_fingerprint(a), bytes, &why);
    if (s == WEFT_OK) {
        subspace_blob(a, &b);
        s = weft_blob_end(&b, 1, &why);
    }
    return s == WEFT_OK ? subspace_exit(a, s) : subspace_refuse(a, s, why.field, why.expected, why.got);
}

SUBSPACE_API weft_status subspace_save(subspace *a, void *buf, size_t capacity, size_t *bytes) {
    weft_blob_buffer m;
    m.to = (unsigned char *)buf;
    m.bytes = capacity;
    return subspace_save_to(a, buf ? weft_blob_to_buffer : NULL, &m, bytes);
}

/* A blob may have a valid checksum and still be hostile. */
WEFT_FN int subspace_blob_sane(const subspace *a) {
    size_t g, k;
    if ((a->settled & WEFT_ROUND_MASK) > a->round || a->round >= WEFT_ROUND_MASK ||
        !subspace_samples_fit(a->own_samples))
        return 0;
    for (g = 0; g < a->groups; g++) {
        if (a->slot_count[g] > a->rows) return 0;
        for (k = 0; k < a->slot_count[g]; k++)
            if (!weft_is_finite(a->slots[g * a->rows + k])) return 0;
    }
    return 1;
}

SUBSPACE_API weft_status subspace_load_from(subspace *a, weft_read_fn read, void *ctx, size_t bytes) {
    weft_blob b;
    weft_detail why = weft_detail_none();
    subspace_stats_t stats;
    double samples;
    int wanting;
    weft_status s = subspace_enter(a, SUBSPACE_ONLY_IDLE);
    if (s != WEFT_OK) return s;
    if (!(subspace_state(a) & SUBSPACE_MAY_LOAD))
        return subspace_refuse(a, WEFT_ERR_ORDER, WEFT_TEXT("rounds"), 0, a->round);
    s = weft_blob_check(&b, read, ctx, bytes, subspace_blob_bytes(a), subspace_blob_fingerprint(a), &why);
    if (s == WEFT_OK) {
        samples = a->own_samples;
        stats = a->stats;
        wanting = a->wanting;
        subspace_blob(a, &b);
        a->averaged = a->settled;
        a->joined = a->settled != 0;
        s = weft_blob_end(&b, subspace_blob_sane(a), &why);
        if (s == WEFT_OK) return subspace_exit(a, WEFT_OK);
        subspace_begin_afresh(a);
        a->own_samples = samples;
        a->stats = stats;
        a->wanting = wanting;
    }
    return subspace_refuse(a, s, why.field, why.expected, why.got);
}

SUBSPACE_API weft_status subspace_load(subspace *a, const void *buf, size_t bytes) {
    weft_blob_buffer m;
    m.from = (const unsigned char *)buf;
    return subspace_load_from(a, buf ? weft_blob_from_buffer : NULL, &m, bytes);
}

/* ---- Reading ---- */

SUBSPACE_API void subspace_stats(const subspace *a, subspace_stats_t *out) {
    if (!a || !out) return;
    *out = a->stats;
    out->members = a->group.members;
    out->traffic = a->group.traffic;
}

SUBSPACE_API void subspace_effective(const subspace *a, subspace_desc *out) {
    if (a && out) *out = a->desc;
}

SUBSPACE_API const weft_detail *subspace_detail(const subspace *a) {
    return a ? &a->group.detail : NULL;
}

SUBSPACE_API uint32_t subspace_state(const subspace *a) {
    uint32_t may = 0;
    if (!a || a->magic != SUBSPACE_MAGIC || a->state >= SUBSPACE_LEFT) return 0;
    if (a->desc.transport) may = SUBSPACE_MAY_REGROUP;
    if (a->lost && !a->cut && !subspace_in_round(a)) may |= SUBSPACE_GRADIENTS_LOST;
    if (a->desc.transport && SUBSPACE_SUBMITTING >> a->state & 1u && (a->waiting || a->state == SUBSPACE_IDLE) &&
        a->then != SUBSPACE_THEN_LEAVE && (a->state != SUBSPACE_COPIED || a->then == SUBSPACE_THEN_ROUND))
        may |= SUBSPACE_MAY_SUBMIT;
    if (a->state != SUBSPACE_IDLE) return may | SUBSPACE_MAY_POLL;
    if (a->round == 0 && a->stats.rounds == 0 && !a->group.synced) may |= SUBSPACE_MAY_LOAD;
    return may | SUBSPACE_MAY_SAVE;
}

SUBSPACE_API uint32_t subspace_members(const subspace *a, uint32_t *ranks, uint32_t capacity) {
    uint32_t i;
    if (!a) return 0;
    for (i = 0; ranks && i < a->group.members && i < capacity; i++) ranks[i] = a->group.member[i];
    return a->group.members;
}

SUBSPACE_API uint32_t subspace_groups(const subspace *a) {
    return a ? (uint32_t)a->groups : 0;
}

SUBSPACE_API weft_status subspace_worker(const subspace *a, uint32_t rank, uint32_t group, subspace_worker_t *out) {
    size_t at;
    uint32_t i;
    if (!a || !out || rank >= a->rows || group >= a->groups || subspace_in_round(a)) return WEFT_ERR_ARGUMENT;
    at = group * a->rows + rank;
    for (i = 0; i < a->count && a->who[i] != rank; i++) continue;
    if (i == a->count || a->norm[at] != a->norm[at]) return WEFT_ERR_ARGUMENT;
    out->norm = a->norm[at];
    out->dot = a->total[(size_t)group * 2 * a->count + i];
    out->alpha = a->alpha[at];
    out->weight = a->weight[at];
    out->coefficient = a->coefficient[at];
    return WEFT_OK;
}

SUBSPACE_API double subspace_scale_of(const subspace *a, uint32_t group) {
    return a && group < a->groups ? a->scale[group] : (double)NAN;
}

SUBSPACE_API uint32_t subspace_slots(const subspace *a, uint32_t group, double *slots, uint32_t capacity) {
    uint32_t i;
    if (!a || group >= a->groups) return 0;
    for (i = 0; slots && i < a->slot_count[group] && i < capacity; i++) slots[i] = a->slots[group * a->rows + i];
    return a->slot_count[group];
}

SUBSPACE_API void subspace_close(subspace *a) {
    if (!a || a->magic != SUBSPACE_MAGIC || a->group.busy) return;
    weft_group_close(&a->group);
    a->state = SUBSPACE_CLOSED;
    a->magic = 0;
}

#if defined __clang__
#pragma STDC FP_CONTRACT DEFAULT
#elif defined __GNUC__
#pragma GCC pop_options
#ifdef __NVCC__
#pragma nv_diag_default 1675, 550
#endif
#elif defined _MSC_VER
#pragma fp_contract(on)
#pragma float_control(pop)
#endif

#endif /* SUBSPACE_IMPLEMENTATION */

#elif defined WEFT_ELEMENT

/* ---- src/weft/kernels/body.h: section -------------------------------------------------------- */

/* Every kernel of a family, once, over the vocabulary of an instruction set. The set defines the vocabulary (serial.h
 * says what it is) and includes this file with WEFT_ELEMENT 32 (float tensors and the 16-bit conversions) and then with
 * WEFT_ELEMENT 64 (double tensors), which takes the vocabulary back. */
#if WEFT_ELEMENT == 32
#define WEFT_K(kernel) WEFT_SET_NAME(f32, kernel)
#define WEFT_T float
#define WEFT_V WEFT_F
#define WEFT_LANES WEFT_F_LANES
#define WEFT_SET(a) WEFT_F_SET(a)
#define WEFT_LOAD(p) WEFT_F_LOAD(p)
#define WEFT_STORE(p, v) WEFT_F_STORE(p, v)
#define WEFT_ADD(a, b) WEFT_F_ADD(a, b)
#define WEFT_SUB(a, b) WEFT_F_SUB(a, b)
#define WEFT_MUL(a, b) WEFT_F_MUL(a, b)
#define WEFT_DIV(a, b) WEFT_F_DIV(a, b)
#define WEFT_NONFINITE(v) WEFT_F_NONFINITE(v)
#define WEFT_WIDE(p) WEFT_D_LOAD32(p)
#define WEFT_NARROW(p, v) WEFT_D_STORE32(p, v)
#ifdef WEFT_D_STREAM32
#define WEFT_NARROW_STREAM(p, v) WEFT_D_STREAM32(p, v)
#endif
#define WEFT_MADD(sum, a, b) WEFT_D_MADD(sum, a, b)
#define WEFT_BITS(p) WEFT_U_LOAD32(p)
#ifdef WEFT_F_STREAM
#define WEFT_STREAM(p, v) WEFT_F_STREAM(p, v)
#endif
#else
#define WEFT_K(kernel) WEFT_SET_NAME(f64, kernel)
#define WEFT_T double
#define WEFT_V WEFT_D
#define WEFT_LANES WEFT_D_LANES
#define WEFT_SET(a) WEFT_D_SET(a)
#define WEFT_LOAD(p) WEFT_D_LOAD(p)
#define WEFT_STORE(p, v) WEFT_D_STORE(p, v)
#define WEFT_ADD(a, b) WEFT_D_ADD(a, b)
#define WEFT_SUB(a, b) WEFT_D_SUB(a, b)
#define WEFT_MUL(a, b) WEFT_D_MUL(a, b)
#define WEFT_DIV(a, b) WEFT_D_DIV(a, b)
#define WEFT_NONFINITE(v) WEFT_D_NONFINITE(v)
#define WEFT_WIDE(p) WEFT_D_LOAD(p)
#define WEFT_NARROW(p, v) WEFT_D_STORE(p, v)
#ifdef WEFT_D_STREAM
#define WEFT_NARROW_STREAM(p, v) WEFT_D_STREAM(p, v)
#endif
#define WEFT_MADD(sum, a, b) WEFT_D_ADD(sum, WEFT_D_MUL(a, b))
#define WEFT_BITS(p) WEFT_U_LOAD64(p)
#ifdef WEFT_D_STREAM
#define WEFT_STREAM(p, v) WEFT_D_STREAM(p, v)
#endif
#endif

/* WEFT_STEP(LOAD, STORE) does elements i .. i + WEFT_LANES - 1. WEFT_EACH runs it over whole vectors; the rest goes
 * through padded copies, so that nothing outside of the arrays is touched. Iterations are independent, in place too.
 * WEFT_EACH_OUT also knows an array that is only written, for WEFT_STEP(LOAD, STORE, OUT): if `stream` is set and the
 * set can, its stores bypass the cache, from where it is aligned. */
#if WEFT_LANES > 1
#define WEFT_LOAD_REST(p) WEFT_K(load_rest)(p, part)
#define WEFT_STORE_REST(p, v) WEFT_K(store_rest)(p, v, part)
#define WEFT_EACH                                                                                                      \
    for (i = 0; n - i >= WEFT_LANES; i += WEFT_LANES) WEFT_STEP(WEFT_LOAD, WEFT_STORE)                                 \
    if (i < n) {                                                                                                       \
        const size_t part = n - i;                                                                                     \
        WEFT_STEP(WEFT_LOAD_REST, WEFT_STORE_REST)                                                                     \
    }
#ifdef WEFT_STREAM
#define WEFT_EACH_OUT(out)                                                                                             \
    i = 0;                                                                                                             \
    if (stream) {                                                                                                      \
        size_t part = WEFT_K(unaligned)(out, n);                                                                       \
        if (part) WEFT_STEP(WEFT_LOAD_REST, WEFT_STORE_REST, WEFT_STORE_REST)                                          \
        for (i = part; n - i >= WEFT_LANES; i += WEFT_LANES) WEFT_STEP(WEFT_LOAD, WEFT_STORE, WEFT_STREAM)             \
    } else {                                                                                                           \
        for (; n - i >= WEFT_LANES; i += WEFT_LANES) WEFT_STEP(WEFT_LOAD, WEFT_STORE, WEFT_STORE)                      \
    }                                                                                                                  \
    if (i < n) {                                                                                                       \
        const size_t part = n - i;                                                                                     \
        WEFT_STEP(WEFT_LOAD_REST, WEFT_STORE_REST, WEFT_STORE_REST)                                                    \
    }

#if WEFT_FAMILY == WEFT_CORE_FAMILY
/* How many of the n elements at p come before the first one that a whole vector can be streamed to. */
WEFT_KERNEL size_t WEFT_K(unaligned)(const void *p, size_t n) {
    const size_t past = (size_t)(uintptr_t)p / sizeof(WEFT_T) % WEFT_LANES, m = past ? WEFT_LANES - past : 0;
    return m < n ? m : n;
}
#endif
#else
#define WEFT_EACH_OUT(out)                                                                                             \
    (void)stream;                                                                                                      \
    for (i = 0; n - i >= WEFT_LANES; i += WEFT_LANES) WEFT_STEP(WEFT_LOAD, WEFT_STORE, WEFT_STORE)                     \
    if (i < n) {                                                                                                       \
        const size_t part = n - i;                                                                                     \
        WEFT_STEP(WEFT_LOAD_REST, WEFT_STORE_REST, WEFT_STORE_REST)                                                    \
    }
#endif

#if WEFT_FAMILY == WEFT_CORE_FAMILY
WEFT_KERNEL WEFT_V WEFT_K(load_rest)(const WEFT_T *p, size_t m) {
    WEFT_T rest[WEFT_LANES];
    memset(rest, 0, sizeof rest);
    memcpy(rest, p, m * sizeof *p);
    return WEFT_LOAD(rest);
}

WEFT_KERNEL void WEFT_K(store_rest)(WEFT_T *p, WEFT_V v, size_t m) {
    WEFT_T rest[WEFT_LANES];
    WEFT_STORE(rest, v);
    memcpy(p, rest, m * sizeof *p);
}
#endif
#else
#define WEFT_EACH WEFT_INDEPENDENT for (i = 0; i < n; i++) WEFT_STEP(WEFT_LOAD, WEFT_STORE)
#define WEFT_EACH_OUT(out)                                                                                             \
    (void)stream;                                                                                                      \
    WEFT_INDEPENDENT for (i = 0; i < n; i++) WEFT_STEP(WEFT_LOAD, WEFT_STORE, WEFT_STORE)
#endif

/* Reductions: element i of a block belongs to lane i % 16. */
#define WEFT_SUMS (WEFT_LANES_OF_A_BLOCK / WEFT_D_LANES) /* accumulators of all lanes */

/* DO(j) for each accumulator; written out, since compilers keep an array in registers only under constant indices. */
#if WEFT_D_LANES == 8
#define WEFT_EACH_SUM(DO) DO(0) DO(1)
#elif WEFT_D_LANES == 4
#define WEFT_EACH_SUM(DO) DO(0) DO(1) DO(2) DO(3)
#elif WEFT_D_LANES == 2
#define WEFT_EACH_SUM(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7)
#else
#define WEFT_EACH_SUM(DO) for (j = 0; j < WEFT_SUMS; j++) { DO(j) }
#endif
#if WEFT_D_LANES == 1
#define WEFT_SUM_INDEX size_t j;
#else
#define WEFT_SUM_INDEX
#endif
#define WEFT_SUM_OF(lanes, j) WEFT_D_LOAD((lanes) + (j) * WEFT_D_LANES)
#define WEFT_SUM_TO(lanes, j, sum) WEFT_D_STORE((lanes) + (j) * WEFT_D_LANES, sum);

#if WEFT_FAMILY == WEFT_CORE_FAMILY
WEFT_KERNEL void WEFT_K(copy)(size_t n, const void *xs, void *ys, int stream) {
#ifdef WEFT_STREAM
    const WEFT_T *x = (const WEFT_T *)xs;
    WEFT_T *y = (WEFT_T *)ys;
    size_t i;
    if (stream) {
#define WEFT_STEP(LOAD, STORE, OUT) { OUT(y + i, LOAD(x + i)); }
        WEFT_EACH_OUT(y)
#undef WEFT_STEP
        return;
    }
#else
    (void)stream;
#endif
    memmove(ys, xs, n * sizeof(WEFT_T));
}

WEFT_KERNEL void WEFT_K(scale)(size_t n, double a, const void *xs, void *ys, int stream) {
    const WEFT_T *x = (const WEFT_T *)xs;
    WEFT_T *y = (WEFT_T *)ys;
    const WEFT_V va = WEFT_SET((WEFT_T)a);
    size_t i;
#define WEFT_STEP(LOAD, STORE, OUT) { OUT(y + i, WEFT_MUL(va, LOAD(x + i))); }
    WEFT_EACH_OUT(y)
#undef WEFT_STEP
}

WEFT_KERNEL void WEFT_K(axpy)(size_t n, double a, const void *xs, void *ys) {
    const WEFT_T *x = (const WEFT_T *)xs;
    WEFT_T *y = (WEFT_T *)ys;
    const WEFT_V va = WEFT_SET((WEFT_T)a);
    size_t i;
#define WEFT_STEP(LOAD, STORE) { STORE(y + i, WEFT_ADD(LOAD(y + i), WEFT_MUL(va, LOAD(x + i)))); }
    WEFT_EACH
#undef WEFT_STEP
}

WEFT_KERNEL void WEFT_K(pull)(size_t n, double l, const void *cs, void *xs) {
    const WEFT_T *c = (const WEFT_T *)cs;
    WEFT_T *x = (WEFT_T *)xs;
    const WEFT_V keep = WEFT_SET((WEFT_T)(1.0 - l)), take = WEFT_SET((WEFT_T)l);
    size_t i;
#define WEFT_STEP(LOAD, STORE) { STORE(x + i, WEFT_ADD(WEFT_MUL(keep, LOAD(x + i)), WEFT_MUL(take, LOAD(c + i)))); }
    WEFT_EACH
#undef WEFT_STEP
}

WEFT_KERNEL void WEFT_K(sam_perturb)(size_t n, double a, const void *gs, void *xs, void *backups, int stream) {
    const WEFT_T *g = (const WEFT_T *)gs;
    WEFT_T *x = (WEFT_T *)xs, *backup = (WEFT_T *)backups;
    const WEFT_V va = WEFT_SET((WEFT_T)a);
    size_t i;
#define WEFT_STEP(LOAD, STORE, OUT)                                                                                    \
    {                                                                                                                  \
        const WEFT_V was = LOAD(x + i);                                                                                \
        OUT(backup + i, was);                                                                                          \
        STORE(x + i, WEFT_ADD(was, WEFT_MUL(va, LOAD(g + i))));                                                        \
    }
    WEFT_EACH_OUT(backup)
#undef WEFT_STEP
}

/* One way over m elements of a sum: v = (started: sum +) w[0] * p[0] + ... of up to four sources, to the sums at hand,
 * or the last time to the result. Returns how many of those are not finite. */
#if WEFT_LANES > 1
#define WEFT_AT_ONCE 4
#define WEFT_SUM_GROUP 128
WEFT_KERNEL unsigned WEFT_K(add_sources)(unsigned count, size_t m, const WEFT_T *const *p, const WEFT_V *w, WEFT_V *sum,
                                         int started, WEFT_T *out, int stream) {
    const WEFT_T *const p0 = p[0], *const p1 = p[1], *const p2 = p[2], *const p3 = p[3];
    const WEFT_V w0 = w[0], w1 = w[1], w2 = w[2], w3 = w[3];
    unsigned bad = 0;
    size_t i, j = 0;
#define WEFT_TERM(LOAD, q) v = WEFT_ADD(v, WEFT_MUL(w##q, LOAD(p##q + i)));
#define WEFT_ONE(LOAD)
#define WEFT_TWO(LOAD) WEFT_TERM(LOAD, 1)
#define WEFT_THREE(LOAD) WEFT_TERM(LOAD, 1) WEFT_TERM(LOAD, 2)
#define WEFT_FOUR(LOAD) WEFT_TERM(LOAD, 1) WEFT_TERM(LOAD, 2) WEFT_TERM(LOAD, 3)
#define WEFT_STEP(LOAD, MORE, TO)                                                                                      \
    {                                                                                                                  \
        WEFT_V v = WEFT_MUL(w0, LOAD(p0 + i));                                                                         \
        if (started) v = WEFT_ADD(sum[j], v);                                                                          \
        MORE(LOAD)                                                                                                     \
        TO(v)                                                                                                          \
    }
#define WEFT_TO_SUM(v) sum[j] = v;
#define WEFT_TO_OUT(v) WEFT_STORE(out + i, v); bad += WEFT_NONFINITE(v);
#define WEFT_TO_MEMORY(v) WEFT_STREAM(out + i, v); bad += WEFT_NONFINITE(v);
/* the lanes that are padding hold zeros, or NaN if a weight is not finite: not counted */
#define WEFT_TO_REST(v) WEFT_STORE_REST(out + i, v); bad += WEFT_NONFINITE(WEFT_LOAD_REST(out + i));
#define WEFT_LOOP(MORE, TO)                                                                                            \
    for (i = 0; m - i >= WEFT_LANES; i += WEFT_LANES, j++) WEFT_STEP(WEFT_LOAD, MORE, TO)                              \
    if (i < m) {                                                                                                       \
        const size_t part = m - i;                                                                                     \
        if (out) WEFT_STEP(WEFT_LOAD_REST, MORE, WEFT_TO_REST)                                                         \
        else WEFT_STEP(WEFT_LOAD_REST, MORE, WEFT_TO_SUM)                                                              \
    }
#ifdef WEFT_STREAM
#define WEFT_WAY(MORE)                                                                                                 \
    if (!out) { WEFT_LOOP(MORE, WEFT_TO_SUM) }                                                                         \
    else if (stream) { WEFT_LOOP(MORE, WEFT_TO_MEMORY) }                                                               \
    else { WEFT_LOOP(MORE, WEFT_TO_OUT) }
#else
#define WEFT_WAY(MORE)                                                                                                 \
    (void)stream;                                                                                                      \
    if (!out) { WEFT_LOOP(MORE, WEFT_TO_SUM) }                                                                         \
    else { WEFT_LOOP(MORE, WEFT_TO_OUT) }
#endif
    if (count == 1) {
        WEFT_WAY(WEFT_ONE)
    } else if (count == 2) {
        WEFT_WAY(WEFT_TWO)
    } else if (count == 3) {
        WEFT_WAY(WEFT_THREE)
    } else {
        WEFT_WAY(WEFT_FOUR)
    }
#undef WEFT_TERM
#undef WEFT_ONE
#undef WEFT_TWO
#undef WEFT_THREE
#undef WEFT_FOUR
#undef WEFT_STEP
#undef WEFT_TO_SUM
#undef WEFT_TO_OUT
#undef WEFT_TO_MEMORY
#undef WEFT_TO_REST
#undef WEFT_LOOP
#undef WEFT_WAY
    return bad;
}

#else
/* One source at a time, in loops that a compiler can make vectors of. */
#define WEFT_AT_ONCE 1
#define WEFT_SUM_GROUP WEFT_GROUP
WEFT_KERNEL unsigned WEFT_K(add_sources)(unsigned count, size_t m, const WEFT_T *const *p, const WEFT_V *w, WEFT_V *sum,
                                         int started, WEFT_T *out, int stream) {
    unsigned bad = 0;
    size_t i;
    (void)count, (void)stream;
    if (started)
        for (i = 0; i < m; i++) sum[i] = sum[i] + w[0] * p[0][i];
    else
        for (i = 0; i < m; i++) sum[i] = w[0] * p[0][i];
    if (!out) return 0;
    for (i = 0; i < m; i++) {
        out[i] = sum[i];
        bad += WEFT_NONFINITE(sum[i]);
    }
    return bad;
}
#endif

/* Four sources at a time: memory gives more so than to eight streams at once. With more than that, a group of elements
 * at a time, whose sums stay in the first-level cache; short groups, since memory likes those better, too. */
WEFT_KERNEL uint64_t WEFT_K(weighted_sum)(size_t first, size_t n, size_t k, const double *w, const void *const *x,
                                          void *outs, int stream) {
    WEFT_T *out = (WEFT_T *)outs + first;
    WEFT_V sum[WEFT_SUM_GROUP / WEFT_LANES], weight[WEFT_AT_ONCE];
    const WEFT_T *p[WEFT_AT_ONCE];
    uint64_t bad = 0;
    size_t s, m;
    unsigned q, count;
    int at_once; /* all in one way, so that no sums are kept */
    while (k && (WEFT_T)w[k - 1] == 0) k--;
    if (!k) memset(out, 0, n * sizeof *out);
    at_once = WEFT_LANES > 1 && k <= WEFT_AT_ONCE;
    for (s = 0; s < k; s++)
        if ((WEFT_T)w[s] == 0) at_once = 0;
    for (; k && n; out += m, first += m, n -= m) {
        int started = 0;
        m = n;
        if (!at_once && m > WEFT_SUM_GROUP) m = WEFT_SUM_GROUP;
#ifdef WEFT_STREAM
        if (stream && WEFT_K(unaligned)(out, n)) m = WEFT_K(unaligned)(out, n); /* the first time */
#endif
        for (s = 0; s < k; s += count) {
            if ((WEFT_T)w[s] == 0) {
                count = 1;
                continue;
            }
            for (count = 1; count < WEFT_AT_ONCE && s + count < k && (WEFT_T)w[s + count] != 0;) count++;
            for (q = 0; q < WEFT_AT_ONCE; q++) {
                const size_t source = q < count ? s + q : s;
                weight[q] = WEFT_SET((WEFT_T)w[source]);
                p[q] = (const WEFT_T *)x[source] + first;
            }
            bad += WEFT_K(add_sources)(count, m, p, weight, sum, started, s + count == k ? out : NULL, stream);
            started = 1;
        }
    }
    return bad;
}

WEFT_KERNEL uint64_t WEFT_K(count_nonfinite)(size_t n, const void *xs) {
    const WEFT_T *x = (const WEFT_T *)xs;
    uint64_t bad = 0;
    while (n) {
        const size_t m = n < WEFT_GROUP ? n : WEFT_GROUP, whole = m - m % WEFT_LANES;
        unsigned group_bad = 0;
        size_t i;
        for (i = 0; i < whole; i += WEFT_LANES) group_bad += WEFT_NONFINITE(WEFT_LOAD(x + i));
#if WEFT_LANES > 1
        if (i < m) group_bad += WEFT_NONFINITE(WEFT_K(load_rest)(x + i, m - i));
#endif
        bad += group_bad;
        x += m;
        n -= m;
    }
    return bad;
}

/* ---- reductions: a step is 16 elements. The last ones are padded with zeros. */
WEFT_KERNEL void WEFT_K(dot_block)(size_t n, const void *xs, const void *ys, double *lanes) {
    const WEFT_T *x = (const WEFT_T *)xs, *y = (const WEFT_T *)ys;
    WEFT_T rest[2 * WEFT_LANES_OF_A_BLOCK];
    WEFT_D sum[WEFT_SUMS];
    WEFT_SUM_INDEX
#define WEFT_DO(j) sum[j] = WEFT_SUM_OF(lanes, j);
    WEFT_EACH_SUM(WEFT_DO)
#undef WEFT_DO
#define WEFT_DO(j) sum[j] = WEFT_MADD(sum[j], WEFT_WIDE(x + (j) * WEFT_D_LANES), WEFT_WIDE(y + (j) * WEFT_D_LANES));
    for (; n >= WEFT_LANES_OF_A_BLOCK; n -= WEFT_LANES_OF_A_BLOCK) {
        WEFT_EACH_SUM(WEFT_DO)
        x += WEFT_LANES_OF_A_BLOCK;
        y += WEFT_LANES_OF_A_BLOCK;
    }
    if (n) {
        memset(rest, 0, sizeof rest);
        memcpy(rest, x, n * sizeof *x);
        memcpy(rest + WEFT_LANES_OF_A_BLOCK, y, n * sizeof *y);
        x = rest;
        y = rest + WEFT_LANES_OF_A_BLOCK;
        WEFT_EACH_SUM(WEFT_DO)
    }
#undef WEFT_DO
#define WEFT_DO(j) WEFT_SUM_TO(lanes, j, sum[j])
    WEFT_EACH_SUM(WEFT_DO)
#undef WEFT_DO
}

WEFT_KERNEL void WEFT_K(sqnorm_block)(size_t n, const void *xs, double *lanes) {
    const WEFT_T *x = (const WEFT_T *)xs;
    WEFT_T rest[WEFT_LANES_OF_A_BLOCK];
    WEFT_D sum[WEFT_SUMS];
    WEFT_SUM_INDEX
#define WEFT_DO(j) sum[j] = WEFT_SUM_OF(lanes, j);
    WEFT_EACH_SUM(WEFT_DO)
#undef WEFT_DO
#define WEFT_DO(j)                                                                                                     \
    {                                                                                                                  \
        const WEFT_D v = WEFT_WIDE(x + (j) * WEFT_D_LANES);                                                            \
        sum[j] = WEFT_MADD(sum[j], v, v);                                                                              \
    }
    for (; n >= WEFT_LANES_OF_A_BLOCK; n -= WEFT_LANES_OF_A_BLOCK) {
        WEFT_EACH_SUM(WEFT_DO)
        x += WEFT_LANES_OF_A_BLOCK;
    }
    if (n) {
        memset(rest, 0, sizeof rest);
        memcpy(rest, x, n * sizeof *x);
        x = rest;
        WEFT_EACH_SUM(WEFT_DO)
    }
#undef WEFT_DO
#define WEFT_DO(j) WEFT_SUM_TO(lanes, j, sum[j])
    WEFT_EACH_SUM(WEFT_DO)
#undef WEFT_DO
}

WEFT_KERNEL void WEFT_K(dots_block)(size_t n, const void *xs, const void *ys, double *lanes) {
    const WEFT_T *x = (const WEFT_T *)xs, *y = (const WEFT_T *)ys;
    double *const lanes_xx = lanes + WEFT_LANES_OF_A_BLOCK, *const lanes_yy = lanes_xx + WEFT_LANES_OF_A_BLOCK;
    WEFT_T rest[2 * WEFT_LANES_OF_A_BLOCK];
    WEFT_D xy[WEFT_SUMS], xx[WEFT_SUMS], yy[WEFT_SUMS];
    WEFT_SUM_INDEX
#define WEFT_DO(j)                                                                                                     \
    xy[j] = WEFT_SUM_OF(lanes, j);                                                                                     \
    xx[j] = WEFT_SUM_OF(lanes_xx, j);                                                                                  \
    yy[j] = WEFT_SUM_OF(lanes_yy, j);
    WEFT_EACH_SUM(WEFT_DO)
#undef WEFT_DO
#define WEFT_DO(j)                                                                                                     \
    {                                                                                                                  \
        const WEFT_D u = WEFT_WIDE(x + (j) * WEFT_D_LANES), v = WEFT_WIDE(y + (j) * WEFT_D_LANES);                     \
        xy[j] = WEFT_MADD(xy[j], u, v);                                                                                \
        xx[j] = WEFT_MADD(xx[j], u, u);                                                                                \
        yy[j] = WEFT_MADD(yy[j], v, v);                                                                                \
    }
    for (; n >= WEFT_LANES_OF_A_BLOCK; n -= WEFT_LANES_OF_A_BLOCK) {
        WEFT_EACH_SUM(WEFT_DO)
        x += WEFT_LANES_OF_A_BLOCK;
        y += WEFT_LANES_OF_A_BLOCK;
    }
    if (n) {
        memset(rest, 0, sizeof rest);
        memcpy(rest, x, n * sizeof *x);
        memcpy(rest + WEFT_LANES_OF_A_BLOCK, y, n * sizeof *y);
        x = rest;
        y = rest + WEFT_LANES_OF_A_BLOCK;
        WEFT_EACH_SUM(WEFT_DO)
    }
#undef WEFT_DO
#define WEFT_DO(j)                                                                                                     \
    WEFT_SUM_TO(lanes, j, xy[j])                                                                                       \
    WEFT_SUM_TO(lanes_xx, j, xx[j])                                                                                    \
    WEFT_SUM_TO(lanes_yy, j, yy[j])
    WEFT_EACH_SUM(WEFT_DO)
#undef WEFT_DO
}

/* Sixteen elements at a time: their part of the norm, then their step. An element that is not finite makes its lane so;
 * only then they are counted (lanes of f64 may also overflow: the count tells). */
WEFT_KERNEL uint64_t WEFT_K(sgd_block)(size_t n, const weft_sgd *o, const void *gs, void *vs, void *xs, double *lanes) {
    const WEFT_T *WEFT_RESTRICT g = (const WEFT_T *)gs;
    WEFT_T *WEFT_RESTRICT v = (WEFT_T *)vs, *WEFT_RESTRICT x = (WEFT_T *)xs;
    const WEFT_T decay = (WEFT_T)o->weight_decay, momentum = (WEFT_T)o->momentum;
    const WEFT_V rate = WEFT_SET((WEFT_T)o->learning_rate), wd = WEFT_SET(decay), mu = WEFT_SET(momentum);
    const int plain = momentum == 0, first = o->first, nesterov = o->nesterov;
    size_t i = 0;
#define WEFT_STEP(LOAD, STORE)                                                                                         \
    {                                                                                                                  \
        const WEFT_V was = LOAD(x + i);                                                                                \
        WEFT_V d = LOAD(g + i);                                                                                        \
        if (decay != 0) d = WEFT_ADD(d, WEFT_MUL(wd, was));                                                            \
        if (!plain) {                                                                                                  \
            WEFT_V u = d;                                                                                              \
            if (!first) u = WEFT_ADD(WEFT_MUL(mu, LOAD(v + i)), d);                                                    \
            STORE(v + i, u);                                                                                           \
            d = nesterov ? WEFT_ADD(d, WEFT_MUL(mu, u)) : u;                                                           \
        }                                                                                                              \
        STORE(x + i, WEFT_SUB(was, WEFT_MUL(rate, d)));                                                                \
    }
#if WEFT_LANES > 1
    {
        WEFT_D sum[WEFT_SUMS];
        size_t end;
#define WEFT_DO(j) sum[j] = WEFT_SUM_OF(lanes, j);
        WEFT_EACH_SUM(WEFT_DO)
#undef WEFT_DO
#define WEFT_DO(j)                                                                                                     \
    {                                                                                                                  \
        const WEFT_D u = WEFT_WIDE(g + i + (j) * WEFT_D_LANES);                                                        \
        sum[j] = WEFT_MADD(sum[j], u, u);                                                                              \
    }
        while (n - i >= WEFT_LANES_OF_A_BLOCK) {
            WEFT_EACH_SUM(WEFT_DO)
            for (end = i + WEFT_LANES_OF_A_BLOCK; i < end; i += WEFT_LANES) WEFT_STEP(WEFT_LOAD, WEFT_STORE)
        }
#undef WEFT_DO
#define WEFT_DO(j) WEFT_SUM_TO(lanes, j, sum[j])
        WEFT_EACH_SUM(WEFT_DO)
#undef WEFT_DO
    }
    WEFT_K(sqnorm_block)(n - i, g + i, lanes);
    for (; n - i >= WEFT_LANES; i += WEFT_LANES) WEFT_STEP(WEFT_LOAD, WEFT_STORE)
    if (i < n) {
        const size_t part = n - i;
        WEFT_STEP(WEFT_LOAD_REST, WEFT_STORE_REST)
    }
#else
    WEFT_K(sqnorm_block)(n, gs, lanes);
    WEFT_EACH
#endif
#undef WEFT_STEP
    for (i = 0; i < WEFT_LANES_OF_A_BLOCK; i++)
        if (!weft_is_finite(lanes[i])) return WEFT_K(count_nonfinite)(n, gs);
    return 0;
}

/* ---- the replica hash ---- */
WEFT_KERNEL uint64_t WEFT_K(hash)(size_t n, uint64_t first, const void *xs) {
    const WEFT_T *x = (const WEFT_T *)xs;
    const size_t whole = n - n % WEFT_D_LANES;
    uint64_t lanes[WEFT_D_LANES], sum = 0;
    size_t i, j;
    WEFT_U key, total = WEFT_U_SET(0);
    const WEFT_U step = WEFT_U_SET(WEFT_HASH_KEY * WEFT_D_LANES);
    for (j = 0; j < WEFT_D_LANES; j++) lanes[j] = WEFT_HASH_KEY * (first + j + 1);
    key = WEFT_U_LOAD64(lanes);
    for (i = 0; i < whole; i += WEFT_D_LANES) {
        WEFT_U z = WEFT_U_ADD(WEFT_BITS(x + i), key);
        key = WEFT_U_ADD(key, step);
        z = WEFT_U_MUL(WEFT_U_XOR(z, WEFT_U_SHR(z, 30)), WEFT_HASH_MUL1);
        z = WEFT_U_MUL(WEFT_U_XOR(z, WEFT_U_SHR(z, 27)), WEFT_HASH_MUL2);
        total = WEFT_U_ADD(total, WEFT_U_XOR(z, WEFT_U_SHR(z, 31)));
    }
    WEFT_U_STORE64(lanes, total);
    for (j = 0; j < WEFT_D_LANES; j++) sum += lanes[j];
#if WEFT_D_LANES > 1
    for (; i < n; i++) {
        uint64_t bits = 0;
#if WEFT_ELEMENT == 32
        uint32_t half;
        memcpy(&half, x + i, sizeof half);
        bits = half;
#else
        memcpy(&bits, x + i, sizeof bits);
#endif
        sum += weft_mix(bits + WEFT_HASH_KEY * (first + i + 1));
    }
#endif
    return sum;
}

#if WEFT_ELEMENT == 32
/* ---- 16-bit types: WEFT_I holds WEFT_F_LANES 32-bit integers ---- */
#if WEFT_LANES > 1
WEFT_KERNEL WEFT_I WEFT_K(load16_rest)(const uint16_t *p, size_t m) {
    uint16_t rest[WEFT_LANES];
    memset(rest, 0, sizeof rest);
    memcpy(rest, p, m * sizeof *p);
    return WEFT_I_LOAD16(rest);
}

WEFT_KERNEL void WEFT_K(store16_rest)(uint16_t *p, WEFT_I v, size_t m) {
    uint16_t rest[WEFT_LANES];
    WEFT_I_STORE16(rest, v);
    memcpy(p, rest, m * sizeof *p);
}
#define WEFT_LOAD16_REST(p) WEFT_K(load16_rest)(p, part)
#define WEFT_STORE16_REST(p, v) WEFT_K(store16_rest)(p, v, part)
#define WEFT_EACH16(LOAD, LOAD_REST, STORE, STORE_REST)                                                                \
    for (i = 0; n - i >= WEFT_LANES; i += WEFT_LANES) WEFT_STEP(LOAD, STORE)                                           \
    if (i < n) {                                                                                                       \
        const size_t part = n - i;                                                                                     \
        WEFT_STEP(LOAD_REST, STORE_REST)                                                                               \
    }
#else
#define WEFT_EACH16(LOAD, LOAD_REST, STORE, STORE_REST)                                                                \
    WEFT_INDEPENDENT for (i = 0; i < n; i++) WEFT_STEP(LOAD, STORE)
#endif

WEFT_KERNEL void WEFT_K(from_bf16)(size_t n, const uint16_t *x, float *y) {
    size_t i;
#define WEFT_STEP(LOAD, STORE) { STORE(y + i, WEFT_I_TO_F(WEFT_I_SHL(LOAD(x + i), 16))); }
    WEFT_EACH16(WEFT_I_LOAD16, WEFT_LOAD16_REST, WEFT_STORE, WEFT_STORE_REST)
#undef WEFT_STEP
}

WEFT_KERNEL void WEFT_K(to_bf16)(size_t n, const float *x, uint16_t *y) {
    const WEFT_I magnitude = WEFT_I_SET(0x7FFFFFFFu), infinity = WEFT_I_SET(0x7F800000u), quiet = WEFT_I_SET(0x40u),
                 half = WEFT_I_SET(0x7FFFu), one = WEFT_I_SET(1u);
    size_t i;
#define WEFT_STEP(LOAD, STORE)                                                                                         \
    {                                                                                                                  \
        const WEFT_I b = WEFT_F_TO_I(LOAD(x + i)), top = WEFT_I_SHR(b, 16);                                            \
        const WEFT_I up = WEFT_I_ADD(b, WEFT_I_ADD(half, WEFT_I_AND(top, one)));                                       \
        STORE(y + i, WEFT_I_SELECT(WEFT_I_GREATER(WEFT_I_AND(b, magnitude), infinity), WEFT_I_OR(top, quiet),          \
                                   WEFT_I_SHR(up, 16)));                                                               \
    }
    WEFT_EACH16(WEFT_LOAD, WEFT_LOAD_REST, WEFT_I_STORE16, WEFT_STORE16_REST)
#undef WEFT_STEP
}

/* Exponent and fraction move to where f32 has them, times 2^112 for the other bias; this makes subnormals right too. */
WEFT_KERNEL void WEFT_K(from_f16)(size_t n, const uint16_t *x, float *y) {
    const WEFT_I magnitude = WEFT_I_SET(0x7FFFu), sign = WEFT_I_SET(0x8000u), finite = WEFT_I_SET(0x0F7FFFFFu),
                 infinity = WEFT_I_SET(0x0F800000u), exponent = WEFT_I_SET(0x7F800000u), nan = WEFT_I_SET(0x7FC00000u);
    const WEFT_F bias = WEFT_I_TO_F(WEFT_I_SET(0x77800000u)); /* 2^112 */
    size_t i;
#define WEFT_STEP(LOAD, STORE)                                                                                         \
    {                                                                                                                  \
        const WEFT_I h = LOAD(x + i), m = WEFT_I_SHL(WEFT_I_AND(h, magnitude), 13);                                    \
        WEFT_I r = WEFT_F_TO_I(WEFT_F_MUL(WEFT_I_TO_F(m), bias));                                                      \
        r = WEFT_I_SELECT(WEFT_I_GREATER(m, finite), exponent, r);                                                     \
        r = WEFT_I_SELECT(WEFT_I_GREATER(m, infinity), WEFT_I_OR(m, nan), r);                                          \
        STORE(y + i, WEFT_I_TO_F(WEFT_I_OR(r, WEFT_I_SHL(WEFT_I_AND(h, sign), 16))));                                  \
    }
    WEFT_EACH16(WEFT_I_LOAD16, WEFT_LOAD16_REST, WEFT_STORE, WEFT_STORE_REST)
#undef WEFT_STEP
}

/* Normal results round in integers; subnormal ones by adding 0.5, whose last place is that of f16's smallest number. */
WEFT_KERNEL void WEFT_K(to_f16)(size_t n, const float *x, uint16_t *y) {
    const WEFT_I magnitude = WEFT_I_SET(0x7FFFFFFFu), sign = WEFT_I_SET(0x8000u), one = WEFT_I_SET(1u),
                 infinity = WEFT_I_SET(0x7F800000u), large = WEFT_I_SET(0x477FFFFFu), normal = WEFT_I_SET(0x38800000u),
                 bias = WEFT_I_SET(0xC8000FFFu), minus_half = WEFT_I_SET(0xC1000000u), inf16 = WEFT_I_SET(0x7C00u),
                 nan16 = WEFT_I_SET(0x7E00u), fraction = WEFT_I_SET(0x3FFu);
    const WEFT_F half = WEFT_F_SET(0.5f);
    size_t i;
#define WEFT_STEP(LOAD, STORE)                                                                                         \
    {                                                                                                                  \
        const WEFT_I b = WEFT_F_TO_I(LOAD(x + i)), m = WEFT_I_AND(b, magnitude), top = WEFT_I_SHR(m, 13);              \
        const WEFT_I tiny = WEFT_I_ADD(WEFT_F_TO_I(WEFT_F_ADD(WEFT_I_TO_F(m), half)), minus_half);                     \
        WEFT_I r = WEFT_I_SHR(WEFT_I_ADD(m, WEFT_I_ADD(bias, WEFT_I_AND(top, one))), 13);                              \
        r = WEFT_I_SELECT(WEFT_I_GREATER(normal, m), tiny, r);                                                         \
        r = WEFT_I_SELECT(WEFT_I_GREATER(m, large), inf16, r);                                                         \
        r = WEFT_I_SELECT(WEFT_I_GREATER(m, infinity), WEFT_I_OR(nan16, WEFT_I_AND(top, fraction)), r);                \
        STORE(y + i, WEFT_I_OR(r, WEFT_I_AND(WEFT_I_SHR(b, 16), sign)));                                               \
    }
    WEFT_EACH16(WEFT_LOAD, WEFT_LOAD_REST, WEFT_I_STORE16, WEFT_STORE16_REST)
#undef WEFT_STEP
}
#undef WEFT_LOAD16_REST
#undef WEFT_STORE16_REST
#undef WEFT_EACH16
#endif
#endif /* WEFT_CORE_FAMILY */

#if WEFT_FAMILY == WEFT_WIDE_FAMILY
/* Sums over workers in f64, and products of their vectors (wide.h): a few hundred columns at a time, which stay in the
 * first-level cache. Part of body.h. */
/* Up to four sources; into s, or if `out` is not NULL, rounded, there. */
WEFT_KERNEL void WEFT_K(sum_wide)(size_t n, size_t k, const double *w, const void *const *xs, double *s, int started,
                                  void *outs, int stream) {
    /* what is not used stands in for what is */
    const WEFT_T *const x0 = (const WEFT_T *)xs[0], *const x1 = (const WEFT_T *)xs[k > 1 ? 1 : 0];
    const WEFT_T *const x2 = (const WEFT_T *)xs[k > 2 ? 2 : 0], *const x3 = (const WEFT_T *)xs[k > 3 ? 3 : 0];
    const double w0 = w[0], w1 = w[k > 1 ? 1 : 0], w2 = w[k > 2 ? 2 : 0], w3 = w[k > 3 ? 3 : 0];
    const WEFT_D a0 = WEFT_D_SET(w0), a1 = WEFT_D_SET(w1), a2 = WEFT_D_SET(w2), a3 = WEFT_D_SET(w3);
    WEFT_T *out = (WEFT_T *)outs;
    size_t i = 0, m;
#define WEFT_MORE(q) v = WEFT_D_ADD(v, WEFT_D_MUL(a##q, WEFT_WIDE(x##q + i)));
#define WEFT_ONE_MORE(q) v = v + w##q * (double)x##q[i];
#define WEFT_STEP(MORE, TO)                                                                                            \
    {                                                                                                                  \
        WEFT_D v = WEFT_D_MUL(a0, WEFT_WIDE(x0 + i));                                                                  \
        if (started) v = WEFT_D_ADD(WEFT_D_LOAD(s + i), v);                                                           \
        MORE                                                                                                           \
        TO;                                                                                                            \
    }
#define WEFT_ONE(ONE_MORE)                                                                                             \
    {                                                                                                                  \
        double v = w0 * (double)x0[i];                                                                                 \
        if (started) v = s[i] + v;                                                                                     \
        ONE_MORE                                                                                                       \
        if (out) out[i] = (WEFT_T)v;                                                                                   \
        else s[i] = v;                                                                                                 \
    }
#if WEFT_D_LANES > 1
#ifdef WEFT_NARROW_STREAM
#define WEFT_SUM_STREAM(MORE)                                                                                          \
    if (out && stream) {                                                                                               \
        for (; n - i >= WEFT_D_LANES; i += WEFT_D_LANES) WEFT_STEP(MORE, WEFT_NARROW_STREAM(out + i, v))               \
    } else
#else
#define WEFT_SUM_STREAM(MORE)
#endif
#define WEFT_SUM(MORE, ONE_MORE)                                                                                       \
    for (; i < m; i++) WEFT_ONE(ONE_MORE)                                                                              \
    WEFT_SUM_STREAM(MORE)                                                                                              \
    if (out) {                                                                                                         \
        for (; n - i >= WEFT_D_LANES; i += WEFT_D_LANES) WEFT_STEP(MORE, WEFT_NARROW(out + i, v))                      \
    } else {                                                                                                           \
        for (; n - i >= WEFT_D_LANES; i += WEFT_D_LANES) WEFT_STEP(MORE, WEFT_D_STORE(s + i, v))                       \
    }                                                                                                                  \
    for (; i < n; i++) WEFT_ONE(ONE_MORE)
#else
#define WEFT_SUM(MORE, ONE_MORE) for (i = 0; i < n; i++) WEFT_ONE(ONE_MORE)
#endif
    m = 0; /* how many columns come before whole vectors can be streamed */
#ifdef WEFT_NARROW_STREAM
    if (out && stream && (size_t)(uintptr_t)out / sizeof(WEFT_T) % WEFT_D_LANES)
        m = WEFT_D_LANES - (size_t)(uintptr_t)out / sizeof(WEFT_T) % WEFT_D_LANES;
    if (m > n) m = n;
#endif
    (void)m, (void)stream, (void)a0, (void)a1, (void)a2, (void)a3;
    if (k == 1) {
        WEFT_SUM(, )
    } else if (k == 2) {
        WEFT_SUM(WEFT_MORE(1), WEFT_ONE_MORE(1))
    } else if (k == 3) {
        WEFT_SUM(WEFT_MORE(1) WEFT_MORE(2), WEFT_ONE_MORE(1) WEFT_ONE_MORE(2))
    } else {
        WEFT_SUM(WEFT_MORE(1) WEFT_MORE(2) WEFT_MORE(3), WEFT_ONE_MORE(1) WEFT_ONE_MORE(2) WEFT_ONE_MORE(3))
    }
#undef WEFT_MORE
#undef WEFT_ONE_MORE
#undef WEFT_STEP
#undef WEFT_ONE
#undef WEFT_SUM
#undef WEFT_SUM_STREAM
}

WEFT_KERNEL void WEFT_K(dots_wide)(size_t n, const void *xs, const double *s, double *lanes) {
    const WEFT_T *x = (const WEFT_T *)xs;
    double *const lanes_xx = lanes + WEFT_LANES_OF_A_BLOCK, wide[WEFT_LANES_OF_A_BLOCK];
    WEFT_T rest[WEFT_LANES_OF_A_BLOCK];
    WEFT_D xs_sum[WEFT_SUMS], xx_sum[WEFT_SUMS];
    WEFT_SUM_INDEX
#define WEFT_DO(j)                                                                                                     \
    xs_sum[j] = WEFT_SUM_OF(lanes, j);                                                                                 \
    xx_sum[j] = WEFT_SUM_OF(lanes_xx, j);
    WEFT_EACH_SUM(WEFT_DO)
#undef WEFT_DO
#define WEFT_DO(j)                                                                                                     \
    {                                                                                                                  \
        const WEFT_D u = WEFT_WIDE(x + (j) * WEFT_D_LANES);                                                            \
        xs_sum[j] = WEFT_D_ADD(xs_sum[j], WEFT_D_MUL(u, WEFT_D_LOAD(s + (j) * WEFT_D_LANES)));                         \
        xx_sum[j] = WEFT_MADD(xx_sum[j], u, u);                                                                        \
    }
    for (; n >= WEFT_LANES_OF_A_BLOCK; n -= WEFT_LANES_OF_A_BLOCK) {
        WEFT_EACH_SUM(WEFT_DO)
        x += WEFT_LANES_OF_A_BLOCK;
        s += WEFT_LANES_OF_A_BLOCK;
    }
    if (n) {
        memset(rest, 0, sizeof rest);
        memset(wide, 0, sizeof wide);
        memcpy(rest, x, n * sizeof *x);
        memcpy(wide, s, n * sizeof *s);
        x = rest;
        s = wide;
        WEFT_EACH_SUM(WEFT_DO)
    }
#undef WEFT_DO
#define WEFT_DO(j)                                                                                                     \
    WEFT_SUM_TO(lanes, j, xs_sum[j])                                                                                   \
    WEFT_SUM_TO(lanes_xx, j, xx_sum[j])
    WEFT_EACH_SUM(WEFT_DO)
#undef WEFT_DO
}

/* Vector after vector of the lanes, each through all columns: ten sums and four sources fit sixteen registers, and
 * what is read again is in the first-level cache. */
WEFT_KERNEL void WEFT_K(gram_columns)(size_t columns, const WEFT_T *const *x, double *lanes) {
    size_t i, at;
    for (at = 0; at < WEFT_LANES_OF_A_BLOCK; at += WEFT_D_LANES) {
        double *l = lanes + at;
#if WEFT_D_LANES > 1
#define WEFT_EACH_PAIR(DO)                                                                                             \
    DO(aa, 0) DO(ab, 1) DO(ac, 2) DO(ad, 3) DO(bb, 4) DO(bc, 5) DO(bd, 6) DO(cc, 7) DO(cd, 8) DO(dd, 9)
#define WEFT_DO(sum, p) WEFT_D sum = WEFT_D_LOAD(l + (p) * WEFT_LANES_OF_A_BLOCK);
        WEFT_EACH_PAIR(WEFT_DO)
#undef WEFT_DO
        for (i = at; i < columns; i += WEFT_LANES_OF_A_BLOCK) {
            const WEFT_D a = WEFT_WIDE(x[0] + i), b = WEFT_WIDE(x[1] + i), c = WEFT_WIDE(x[2] + i);
            const WEFT_D d = WEFT_WIDE(x[3] + i);
            aa = WEFT_MADD(aa, a, a);
            ab = WEFT_MADD(ab, a, b);
            ac = WEFT_MADD(ac, a, c);
            ad = WEFT_MADD(ad, a, d);
            bb = WEFT_MADD(bb, b, b);
            bc = WEFT_MADD(bc, b, c);
            bd = WEFT_MADD(bd, b, d);
            cc = WEFT_MADD(cc, c, c);
            cd = WEFT_MADD(cd, c, d);
            dd = WEFT_MADD(dd, d, d);
        }
#define WEFT_DO(sum, p) WEFT_D_STORE(l + (p) * WEFT_LANES_OF_A_BLOCK, sum);
        WEFT_EACH_PAIR(WEFT_DO)
#undef WEFT_DO
#undef WEFT_EACH_PAIR
#else /* little code where there are no vectors */
        size_t u, v;
        for (u = 0; u < 4; u++)
            for (v = u; v < 4; v++, l += WEFT_LANES_OF_A_BLOCK)
                for (i = at; i < columns; i += WEFT_LANES_OF_A_BLOCK)
                    *l = WEFT_MADD(*l, WEFT_WIDE(x[u] + i), WEFT_WIDE(x[v] + i));
#endif
    }
}

WEFT_KERNEL void WEFT_K(gram_block)(size_t n, const void *const *xs, double *lanes) {
    const size_t whole = n - n % WEFT_LANES_OF_A_BLOCK;
    WEFT_T rest[4 * WEFT_LANES_OF_A_BLOCK];
    const WEFT_T *x[4];
    size_t i;
    for (i = 0; i < 4; i++) x[i] = (const WEFT_T *)xs[i];
    WEFT_K(gram_columns)(whole, x, lanes);
    if (n == whole) return;
    memset(rest, 0, sizeof rest);
    for (i = 0; i < 4; i++) {
        memcpy(rest + i * WEFT_LANES_OF_A_BLOCK, x[i] + whole, (n - whole) * sizeof *rest);
        x[i] = rest + i * WEFT_LANES_OF_A_BLOCK;
    }
    WEFT_K(gram_columns)(WEFT_LANES_OF_A_BLOCK, x, lanes);
}
#endif

#undef WEFT_K
#undef WEFT_T
#undef WEFT_V
#undef WEFT_LANES
#undef WEFT_SET
#undef WEFT_LOAD
#undef WEFT_STORE
#undef WEFT_ADD
#undef WEFT_SUB
#undef WEFT_MUL
#undef WEFT_DIV
#undef WEFT_NONFINITE
#undef WEFT_WIDE
#undef WEFT_NARROW
#undef WEFT_NARROW_STREAM
#undef WEFT_MADD
#undef WEFT_BITS
#undef WEFT_STREAM
#undef WEFT_LOAD_REST
#undef WEFT_STORE_REST
#undef WEFT_EACH
#undef WEFT_EACH_OUT
#undef WEFT_SUM_GROUP
#undef WEFT_AT_ONCE
#undef WEFT_SUMS
#undef WEFT_SUM_INDEX
#undef WEFT_SUM_OF
#undef WEFT_SUM_TO
#undef WEFT_EACH_SUM
#if WEFT_ELEMENT == 64 /* the last: the vocabulary is taken back, but for WEFT_SET_NAME */
#undef WEFT_KERNEL
#undef WEFT_F
#undef WEFT_F_LANES
#undef WEFT_F_SET
#undef WEFT_F_LOAD
#undef WEFT_F_STORE
#undef WEFT_F_STREAM
#undef WEFT_F_ADD
#undef WEFT_F_SUB
#undef WEFT_F_MUL
#undef WEFT_F_DIV
#undef WEFT_F_NONFINITE
#undef WEFT_F_TO_I
#undef WEFT_D
#undef WEFT_D_LANES
#undef WEFT_D_SET
#undef WEFT_D_LOAD
#undef WEFT_D_LOAD32
#undef WEFT_D_STORE
#undef WEFT_D_STORE32
#undef WEFT_D_STREAM
#undef WEFT_D_STREAM32
#undef WEFT_D_ADD
#undef WEFT_D_SUB
#undef WEFT_D_MUL
#undef WEFT_D_DIV
#undef WEFT_D_MADD
#undef WEFT_D_NONFINITE
#undef WEFT_U
#undef WEFT_U_SET
#undef WEFT_U_LOAD64
#undef WEFT_U_LOAD32
#undef WEFT_U_STORE64
#undef WEFT_U_ADD
#undef WEFT_U_XOR
#undef WEFT_U_SHR
#undef WEFT_U_MUL
#undef WEFT_I
#undef WEFT_I_SET
#undef WEFT_I_LOAD16
#undef WEFT_I_STORE16
#undef WEFT_I_ADD
#undef WEFT_I_AND
#undef WEFT_I_OR
#undef WEFT_I_SHL
#undef WEFT_I_SHR
#undef WEFT_I_GREATER
#undef WEFT_I_SELECT
#undef WEFT_I_TO_F
#endif
#undef WEFT_ELEMENT

#elif defined WEFT_FAMILY

/* ---- src/weft/kernels/sets.h: section -------------------------------------------------------- */

/* The kernels of a family and their tables, for every instruction set that this compiler makes. Read with WEFT_FAMILY
 * (kernels.h has the list) and WEFT_FAMILY_TABLES(set, isa, fence) defined; takes both back. */
/* The serial set: one lane, any machine. It is also the pattern for the other sets: define the vocabulary, include
 * body.h for each element type, make the tables. All of it is read once for each family of kernels.
 *
 *   WEFT_SET_NAME(element, kernel)    the name of a kernel of this set
 *   WEFT_KERNEL                       storage class and attributes (target) of a kernel
 *   F: WEFT_F_LANES floats            D: WEFT_D_LANES doubles         U: WEFT_D_LANES 64-bit integers
 *   I: WEFT_F_LANES 32-bit integers   the numbers of lanes are 1, 2, 4, 8 or 16, known to the preprocessor
 *
 * Loads and stores are unaligned. ADD, SUB, MUL and DIV round each time. F_NONFINITE, D_NONFINITE: how many lanes are
 * NaN or infinite. D_LOAD32: WEFT_D_LANES floats, widened; D_STORE32: rounded to float. U_LOAD64, U_LOAD32: the bits of
 * doubles, of floats zero-extended. U_MUL: by a constant, the low 64 bits. I_LOAD16, I_STORE16: WEFT_F_LANES 16-bit
 * integers. I_GREATER: a mask for I_SELECT(mask, if set, if not), called with values below 2^31. F_TO_I, I_TO_F: the
 * bits. SHL, SHR: by a constant. D_MADD(sum, a, b): sum + a * b for widened floats, whose product is exact, so that it
 * may be fused. Optional: F_STREAM, D_STREAM, D_STREAM32, which store a whole aligned vector past the cache, and then,
 * for the tables, a function that makes such stores visible to other threads before anything that follows (else
 * NULL). */
#define WEFT_SET_NAME(element, kernel) weft_serial_##element##_##kernel
#define WEFT_KERNEL WEFT_FN

#define WEFT_F float
#define WEFT_F_LANES 1
#define WEFT_F_SET(a) (a)
#define WEFT_F_LOAD(p) (*(p))
#define WEFT_F_STORE(p, v) (void)(*(p) = (v))
#define WEFT_F_ADD(a, b) ((a) + (b))
#define WEFT_F_SUB(a, b) ((a) - (b))
#define WEFT_F_MUL(a, b) ((a) * (b))
#define WEFT_F_DIV(a, b) ((a) / (b))
#define WEFT_F_NONFINITE(v) weft_f32_nonfinite(v)
#define WEFT_F_TO_I(v) weft_f32_bits(v)

#define WEFT_D double
#define WEFT_D_LANES 1
#define WEFT_D_SET(a) (a)
#define WEFT_D_LOAD(p) (*(p))
#define WEFT_D_LOAD32(p) ((double)*(p))
#define WEFT_D_STORE(p, v) (void)(*(p) = (v))
#define WEFT_D_STORE32(p, v) (void)(*(p) = (float)(v))
#define WEFT_D_ADD(a, b) ((a) + (b))
#define WEFT_D_SUB(a, b) ((a) - (b))
#define WEFT_D_MUL(a, b) ((a) * (b))
#define WEFT_D_DIV(a, b) ((a) / (b))
#define WEFT_D_MADD(sum, a, b) ((sum) + (a) * (b))
#define WEFT_D_NONFINITE(v) weft_f64_nonfinite(v)

#define WEFT_U uint64_t
#define WEFT_U_SET(a) ((uint64_t)(a))
#define WEFT_U_LOAD64(p) weft_load_u64(p)
#define WEFT_U_LOAD32(p) ((uint64_t)weft_load_u32(p))
#define WEFT_U_STORE64(p, v) (void)(*(p) = (v))
#define WEFT_U_ADD(a, b) ((a) + (b))
#define WEFT_U_XOR(a, b) ((a) ^ (b))
#define WEFT_U_SHR(a, n) ((a) >> (n))
#define WEFT_U_MUL(a, b) ((a) * (b))

#define WEFT_I uint32_t
#define WEFT_I_SET(a) ((uint32_t)(a))
#define WEFT_I_LOAD16(p) ((uint32_t)*(p))
#define WEFT_I_STORE16(p, v) (void)(*(p) = (uint16_t)(v))
#define WEFT_I_ADD(a, b) ((a) + (b))
#define WEFT_I_AND(a, b) ((a) & (b))
#define WEFT_I_OR(a, b) ((a) | (b))
#define WEFT_I_SHL(a, n) ((a) << (n))
#define WEFT_I_SHR(a, n) ((a) >> (n))
#define WEFT_I_GREATER(a, b) ((a) > (b))
#define WEFT_I_SELECT(mask, a, b) ((mask) ? (a) : (b))
#define WEFT_I_TO_F(v) weft_bits_f32(v)

#define WEFT_ELEMENT 32
#include SUBSPACE_HEADER
#define WEFT_ELEMENT 64
#include SUBSPACE_HEADER

WEFT_FAMILY_TABLES(serial, WEFT_ISA_SERIAL, NULL)
#undef WEFT_SET_NAME
#ifdef WEFT_HAVE_X86
/* SSE2: what every x86-64 machine has.
 * The vocabulary is that of serial.h. */
#define WEFT_SET_NAME(element, kernel) weft_sse2_##element##_##kernel
#define WEFT_KERNEL WEFT_FN

/* The two halves of a 64-bit product that fit into 64 bits; n is a constant. */
#define WEFT_SSE2_MUL64(a, n)                                                                                          \
    _mm_add_epi64(_mm_mul_epu32(a, _mm_set1_epi64x((int64_t)((n) & 0xFFFFFFFFu))),                                     \
                  _mm_slli_epi64(_mm_add_epi64(_mm_mul_epu32(a, _mm_set1_epi64x((int64_t)((n) >> 32))),                \
                                               _mm_mul_epu32(_mm_srli_epi64(a, 32),                                    \
                                                             _mm_set1_epi64x((int64_t)((n) & 0xFFFFFFFFu)))),          \
                                 32))
/* How many of four bits are set, without an instruction that came later. */
#define WEFT_SSE2_COUNT(bits) ((unsigned)(UINT64_C(0x4332322132212110) >> 4 * (unsigned)(bits)) & 7u)

#define WEFT_F __m128
#define WEFT_F_LANES 4
#define WEFT_F_SET(a) _mm_set1_ps(a)
#define WEFT_F_LOAD(p) _mm_loadu_ps(p)
#define WEFT_F_STORE(p, v) _mm_storeu_ps(p, v)
#define WEFT_F_STREAM(p, v) _mm_stream_ps(p, v)
#define WEFT_F_ADD(a, b) _mm_add_ps(a, b)
#define WEFT_F_SUB(a, b) _mm_sub_ps(a, b)
#define WEFT_F_MUL(a, b) _mm_mul_ps(a, b)
#define WEFT_F_DIV(a, b) _mm_div_ps(a, b)
#define WEFT_F_NONFINITE(v)                                                                                            \
    WEFT_SSE2_COUNT(_mm_movemask_ps(_mm_castsi128_ps(_mm_cmpeq_epi32(                                                  \
        _mm_and_si128(_mm_castps_si128(v), _mm_set1_epi32(0x7F800000)), _mm_set1_epi32(0x7F800000)))))
#define WEFT_F_TO_I(v) _mm_castps_si128(v)

#define WEFT_D __m128d
#define WEFT_D_LANES 2
#define WEFT_D_SET(a) _mm_set1_pd(a)
#define WEFT_D_LOAD(p) _mm_loadu_pd(p)
#define WEFT_D_LOAD32(p) _mm_cvtps_pd(_mm_castsi128_ps(_mm_loadl_epi64((const __m128i *)(const void *)(p))))
#define WEFT_D_STORE(p, v) _mm_storeu_pd(p, v)
#define WEFT_D_STORE32(p, v) _mm_storel_epi64((__m128i *)(void *)(p), _mm_castps_si128(_mm_cvtpd_ps(v)))
#define WEFT_D_STREAM(p, v) _mm_stream_pd(p, v)
#define WEFT_D_ADD(a, b) _mm_add_pd(a, b)
#define WEFT_D_SUB(a, b) _mm_sub_pd(a, b)
#define WEFT_D_MUL(a, b) _mm_mul_pd(a, b)
#define WEFT_D_DIV(a, b) _mm_div_pd(a, b)
#define WEFT_D_MADD(sum, a, b) _mm_add_pd(sum, _mm_mul_pd(a, b))
#define WEFT_D_NONFINITE(v)                                                                                            \
    WEFT_SSE2_COUNT(_mm_movemask_pd(_mm_castsi128_pd(                                                                  \
        _mm_cmpeq_epi32(_mm_and_si128(_mm_castpd_si128(v), _mm_set1_epi64x(0x7FF0000000000000)),                       \
                        _mm_set1_epi64x(0x7FF0000000000000)))))

#define WEFT_U __m128i
#define WEFT_U_SET(a) _mm_set1_epi64x((int64_t)(a))
#define WEFT_U_LOAD64(p) _mm_loadu_si128((const __m128i *)(const void *)(p))
#define WEFT_U_LOAD32(p) _mm_unpacklo_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p)), _mm_setzero_si128())
#define WEFT_U_STORE64(p, v) _mm_storeu_si128((__m128i *)(void *)(p), v)
#define WEFT_U_ADD(a, b) _mm_add_epi64(a, b)
#define WEFT_U_XOR(a, b) _mm_xor_si128(a, b)
#define WEFT_U_SHR(a, n) _mm_srli_epi64(a, n)
#define WEFT_U_MUL(a, b) WEFT_SSE2_MUL64(a, b)

#define WEFT_I __m128i
#define WEFT_I_SET(a) _mm_set1_epi32((int)(a))
#define WEFT_I_LOAD16(p) _mm_unpacklo_epi16(_mm_loadl_epi64((const __m128i *)(const void *)(p)), _mm_setzero_si128())
/* packing saturates as for signed numbers: the sign is spread first */
#define WEFT_SSE2_SPREAD(v) _mm_srai_epi32(_mm_slli_epi32(v, 16), 16)
#define WEFT_I_STORE16(p, v)                                                                                           \
    _mm_storel_epi64((__m128i *)(void *)(p), _mm_packs_epi32(WEFT_SSE2_SPREAD(v), WEFT_SSE2_SPREAD(v)))
#define WEFT_I_ADD(a, b) _mm_add_epi32(a, b)
#define WEFT_I_AND(a, b) _mm_and_si128(a, b)
#define WEFT_I_OR(a, b) _mm_or_si128(a, b)
#define WEFT_I_SHL(a, n) _mm_slli_epi32(a, n)
#define WEFT_I_SHR(a, n) _mm_srli_epi32(a, n)
#define WEFT_I_GREATER(a, b) _mm_cmpgt_epi32(a, b)
#define WEFT_I_SELECT(mask, a, b) weft_sse2_select(mask, a, b)
#define WEFT_I_TO_F(v) _mm_castsi128_ps(v)

#if WEFT_FAMILY == WEFT_CORE_FAMILY
WEFT_KERNEL __m128i weft_sse2_select(__m128i mask, __m128i a, __m128i b) {
    return _mm_or_si128(_mm_and_si128(mask, a), _mm_andnot_si128(mask, b));
}
#endif

#define WEFT_ELEMENT 32
#include SUBSPACE_HEADER
#define WEFT_ELEMENT 64
#include SUBSPACE_HEADER

WEFT_FAMILY_TABLES(sse2, WEFT_ISA_SSE2, weft_x86_fence)
#undef WEFT_SET_NAME
/* AVX2 with FMA: x86 since 2013.
 * The vocabulary is that of serial.h. */
#define WEFT_SET_NAME(element, kernel) weft_avx2_##element##_##kernel
#define WEFT_KERNEL WEFT_FN __attribute__((target("avx2,fma,popcnt")))

#define WEFT_AVX2_MUL64(a, n)                                                                                          \
    _mm256_add_epi64(                                                                                                  \
        _mm256_mul_epu32(a, _mm256_set1_epi64x((int64_t)((n) & 0xFFFFFFFFu))),                                         \
        _mm256_slli_epi64(_mm256_add_epi64(_mm256_mul_epu32(a, _mm256_set1_epi64x((int64_t)((n) >> 32))),              \
                                           _mm256_mul_epu32(_mm256_srli_epi64(a, 32),                                  \
                                                            _mm256_set1_epi64x((int64_t)((n) & 0xFFFFFFFFu)))),        \
                          32))

#define WEFT_F __m256
#define WEFT_F_LANES 8
#define WEFT_F_SET(a) _mm256_set1_ps(a)
#define WEFT_F_LOAD(p) _mm256_loadu_ps(p)
#define WEFT_F_STORE(p, v) _mm256_storeu_ps(p, v)
#define WEFT_F_STREAM(p, v) _mm256_stream_ps(p, v)
#define WEFT_F_ADD(a, b) _mm256_add_ps(a, b)
#define WEFT_F_SUB(a, b) _mm256_sub_ps(a, b)
#define WEFT_F_MUL(a, b) _mm256_mul_ps(a, b)
#define WEFT_F_DIV(a, b) _mm256_div_ps(a, b)
#define WEFT_F_NONFINITE(v)                                                                                            \
    (unsigned)_mm_popcnt_u32((unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(                      \
        _mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(0x7F800000)), _mm256_set1_epi32(0x7F800000)))))
#define WEFT_F_TO_I(v) _mm256_castps_si256(v)

/* Four doubles, or 64-bit integers, a vector: AVX2's, which AVX-512 keeps to as well, since the sixteen lanes of a sum
 * are two vectors of eight or four of four, and two leave an adder idle most of the time. */
#define WEFT_D __m256d
#define WEFT_D_LANES 4
#define WEFT_D_SET(a) _mm256_set1_pd(a)
#define WEFT_D_LOAD(p) _mm256_loadu_pd(p)
#define WEFT_D_LOAD32(p) _mm256_cvtps_pd(_mm_loadu_ps(p))
#define WEFT_D_STORE(p, v) _mm256_storeu_pd(p, v)
#define WEFT_D_STORE32(p, v) _mm_storeu_ps(p, _mm256_cvtpd_ps(v))
#define WEFT_D_STREAM(p, v) _mm256_stream_pd(p, v)
#define WEFT_D_STREAM32(p, v) _mm_stream_ps(p, _mm256_cvtpd_ps(v))
#define WEFT_D_ADD(a, b) _mm256_add_pd(a, b)
#define WEFT_D_SUB(a, b) _mm256_sub_pd(a, b)
#define WEFT_D_MUL(a, b) _mm256_mul_pd(a, b)
#define WEFT_D_DIV(a, b) _mm256_div_pd(a, b)
#define WEFT_D_MADD(sum, a, b) _mm256_fmadd_pd(a, b, sum)

#define WEFT_U __m256i
#define WEFT_U_SET(a) _mm256_set1_epi64x((int64_t)(a))
#define WEFT_U_LOAD64(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define WEFT_U_LOAD32(p) _mm256_cvtepu32_epi64(_mm_loadu_si128((const __m128i *)(const void *)(p)))
#define WEFT_U_STORE64(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), v)
#define WEFT_U_ADD(a, b) _mm256_add_epi64(a, b)
#define WEFT_U_XOR(a, b) _mm256_xor_si256(a, b)
#define WEFT_U_SHR(a, n) _mm256_srli_epi64(a, n)
#define WEFT_D_NONFINITE(v)                                                                                            \
    (unsigned)_mm_popcnt_u32((unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(                                         \
        _mm256_cmpeq_epi64(_mm256_and_si256(_mm256_castpd_si256(v), _mm256_set1_epi64x(0x7FF0000000000000)),           \
                           _mm256_set1_epi64x(0x7FF0000000000000)))))
#define WEFT_U_MUL(a, b) WEFT_AVX2_MUL64(a, b)

#define WEFT_I __m256i
#define WEFT_I_SET(a) _mm256_set1_epi32((int)(a))
#define WEFT_I_LOAD16(p) _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p)))
#define WEFT_I_STORE16(p, v)                                                                                           \
    _mm_storeu_si128((__m128i *)(void *)(p),                                                                           \
                     _mm256_castsi256_si128(_mm256_permute4x64_epi64(_mm256_packus_epi32(v, v), 0x08)))
#define WEFT_I_ADD(a, b) _mm256_add_epi32(a, b)
#define WEFT_I_AND(a, b) _mm256_and_si256(a, b)
#define WEFT_I_OR(a, b) _mm256_or_si256(a, b)
#define WEFT_I_SHL(a, n) _mm256_slli_epi32(a, n)
#define WEFT_I_SHR(a, n) _mm256_srli_epi32(a, n)
#define WEFT_I_GREATER(a, b) _mm256_cmpgt_epi32(a, b)
#define WEFT_I_SELECT(mask, a, b) _mm256_blendv_epi8(b, a, mask)
#define WEFT_I_TO_F(v) _mm256_castsi256_ps(v)

#define WEFT_ELEMENT 32
#include SUBSPACE_HEADER
#define WEFT_ELEMENT 64
#include SUBSPACE_HEADER

WEFT_FAMILY_TABLES(avx2, WEFT_ISA_AVX2, weft_x86_fence)
#undef WEFT_SET_NAME
/* gcc 12's own AVX-512 intrinsics leave variables undefined on purpose, and as C++ it warns of them here */
#if !defined __clang__
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
/* AVX-512 F, DQ and VL.
 * The vocabulary is that of serial.h. */
#define WEFT_SET_NAME(element, kernel) weft_avx512_##element##_##kernel
#define WEFT_KERNEL WEFT_FN __attribute__((target("avx512f,avx512dq,avx512vl,fma,popcnt")))

#define WEFT_F __m512
#define WEFT_F_LANES 16
#define WEFT_F_SET(a) _mm512_set1_ps(a)
#define WEFT_F_LOAD(p) _mm512_loadu_ps(p)
#define WEFT_F_STORE(p, v) _mm512_storeu_ps(p, v)
#define WEFT_F_STREAM(p, v) _mm512_stream_ps(p, v)
#define WEFT_F_ADD(a, b) _mm512_add_ps(a, b)
#define WEFT_F_SUB(a, b) _mm512_sub_ps(a, b)
#define WEFT_F_MUL(a, b) _mm512_mul_ps(a, b)
#define WEFT_F_DIV(a, b) _mm512_div_ps(a, b)
/* 0x99: NaN of either kind, infinity of either sign */
#define WEFT_F_NONFINITE(v) (unsigned)_mm_popcnt_u32((unsigned)_mm512_fpclass_ps_mask(v, 0x99))
#define WEFT_F_TO_I(v) _mm512_castps_si512(v)

/* Four doubles, or 64-bit integers, a vector: AVX2's, which AVX-512 keeps to as well, since the sixteen lanes of a sum
 * are two vectors of eight or four of four, and two leave an adder idle most of the time. */
#define WEFT_D __m256d
#define WEFT_D_LANES 4
#define WEFT_D_SET(a) _mm256_set1_pd(a)
#define WEFT_D_LOAD(p) _mm256_loadu_pd(p)
#define WEFT_D_LOAD32(p) _mm256_cvtps_pd(_mm_loadu_ps(p))
#define WEFT_D_STORE(p, v) _mm256_storeu_pd(p, v)
#define WEFT_D_STORE32(p, v) _mm_storeu_ps(p, _mm256_cvtpd_ps(v))
#define WEFT_D_STREAM(p, v) _mm256_stream_pd(p, v)
#define WEFT_D_STREAM32(p, v) _mm_stream_ps(p, _mm256_cvtpd_ps(v))
#define WEFT_D_ADD(a, b) _mm256_add_pd(a, b)
#define WEFT_D_SUB(a, b) _mm256_sub_pd(a, b)
#define WEFT_D_MUL(a, b) _mm256_mul_pd(a, b)
#define WEFT_D_DIV(a, b) _mm256_div_pd(a, b)
#define WEFT_D_MADD(sum, a, b) _mm256_fmadd_pd(a, b, sum)

#define WEFT_U __m256i
#define WEFT_U_SET(a) _mm256_set1_epi64x((int64_t)(a))
#define WEFT_U_LOAD64(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define WEFT_U_LOAD32(p) _mm256_cvtepu32_epi64(_mm_loadu_si128((const __m128i *)(const void *)(p)))
#define WEFT_U_STORE64(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), v)
#define WEFT_U_ADD(a, b) _mm256_add_epi64(a, b)
#define WEFT_U_XOR(a, b) _mm256_xor_si256(a, b)
#define WEFT_U_SHR(a, n) _mm256_srli_epi64(a, n)
#define WEFT_D_NONFINITE(v) (unsigned)_mm_popcnt_u32((unsigned)_mm256_fpclass_pd_mask(v, 0x99))
#define WEFT_U_MUL(a, b) _mm256_mullo_epi64(a, _mm256_set1_epi64x((int64_t)(b)))

#define WEFT_I __m512i
#define WEFT_I_SET(a) _mm512_set1_epi32((int)(a))
#define WEFT_I_LOAD16(p) _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(p)))
#define WEFT_I_STORE16(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), _mm512_cvtepi32_epi16(v))
#define WEFT_I_ADD(a, b) _mm512_add_epi32(a, b)
#define WEFT_I_AND(a, b) _mm512_and_si512(a, b)
#define WEFT_I_OR(a, b) _mm512_or_si512(a, b)
#define WEFT_I_SHL(a, n) _mm512_slli_epi32(a, n)
#define WEFT_I_SHR(a, n) _mm512_srli_epi32(a, n)
#define WEFT_I_GREATER(a, b) _mm512_cmpgt_epi32_mask(a, b)
#define WEFT_I_SELECT(mask, a, b) _mm512_mask_blend_epi32(mask, b, a)
#define WEFT_I_TO_F(v) _mm512_castsi512_ps(v)

#define WEFT_ELEMENT 32
#include SUBSPACE_HEADER
#define WEFT_ELEMENT 64
#include SUBSPACE_HEADER

WEFT_FAMILY_TABLES(avx512, WEFT_ISA_AVX512, weft_x86_fence)
#undef WEFT_SET_NAME
#if !defined __clang__
#pragma GCC diagnostic pop
#endif
#endif
#ifdef WEFT_HAVE_NEON
/* NEON of 64-bit Arm, which unlike that of 32-bit Arm has doubles and keeps subnormals.
 * The vocabulary is that of serial.h. */
#define WEFT_SET_NAME(element, kernel) weft_neon_##element##_##kernel
#define WEFT_KERNEL WEFT_FN

/* Bits are loaded as bytes, which may be part of elements of any type. */
#define WEFT_NEON_BYTES(p) ((const uint8_t *)(const void *)(p))

#define WEFT_F float32x4_t
#define WEFT_F_LANES 4
#define WEFT_F_SET(a) vdupq_n_f32(a)
#define WEFT_F_LOAD(p) vld1q_f32(p)
#define WEFT_F_STORE(p, v) vst1q_f32(p, v)
#define WEFT_F_ADD(a, b) vaddq_f32(a, b)
#define WEFT_F_SUB(a, b) vsubq_f32(a, b)
#define WEFT_F_MUL(a, b) vmulq_f32(a, b)
#define WEFT_F_DIV(a, b) vdivq_f32(a, b)
#define WEFT_F_NONFINITE(v) weft_neon_f_nonfinite(v)
#define WEFT_F_TO_I(v) vreinterpretq_u32_f32(v)

#define WEFT_D float64x2_t
#define WEFT_D_LANES 2
#define WEFT_D_SET(a) vdupq_n_f64(a)
#define WEFT_D_LOAD(p) vld1q_f64(p)
#define WEFT_D_LOAD32(p) vcvt_f64_f32(vld1_f32(p))
#define WEFT_D_STORE(p, v) vst1q_f64(p, v)
#define WEFT_D_STORE32(p, v) vst1_f32(p, vcvt_f32_f64(v))
#define WEFT_D_ADD(a, b) vaddq_f64(a, b)
#define WEFT_D_SUB(a, b) vsubq_f64(a, b)
#define WEFT_D_MUL(a, b) vmulq_f64(a, b)
#define WEFT_D_DIV(a, b) vdivq_f64(a, b)
#define WEFT_D_MADD(sum, a, b) vfmaq_f64(sum, a, b)
#define WEFT_D_NONFINITE(v) weft_neon_d_nonfinite(v)

#define WEFT_U uint64x2_t
#define WEFT_U_SET(a) vdupq_n_u64(a)
#define WEFT_U_LOAD64(p) vreinterpretq_u64_u8(vld1q_u8(WEFT_NEON_BYTES(p)))
#define WEFT_U_LOAD32(p) vmovl_u32(vreinterpret_u32_u8(vld1_u8(WEFT_NEON_BYTES(p))))
#define WEFT_U_STORE64(p, v) vst1q_u64(p, v)
#define WEFT_U_ADD(a, b) vaddq_u64(a, b)
#define WEFT_U_XOR(a, b) veorq_u64(a, b)
#define WEFT_U_SHR(a, n) vshrq_n_u64(a, n)
#define WEFT_U_MUL(a, b) weft_neon_mul64(a, b)

#define WEFT_I uint32x4_t
#define WEFT_I_SET(a) vdupq_n_u32(a)
#define WEFT_I_LOAD16(p) vmovl_u16(vld1_u16(p))
#define WEFT_I_STORE16(p, v) vst1_u16(p, vmovn_u32(v))
#define WEFT_I_ADD(a, b) vaddq_u32(a, b)
#define WEFT_I_AND(a, b) vandq_u32(a, b)
#define WEFT_I_OR(a, b) vorrq_u32(a, b)
#define WEFT_I_SHL(a, n) vshlq_n_u32(a, n)
#define WEFT_I_SHR(a, n) vshrq_n_u32(a, n)
#define WEFT_I_GREATER(a, b) vcgtq_u32(a, b)
#define WEFT_I_SELECT(mask, a, b) vbslq_u32(mask, a, b)
#define WEFT_I_TO_F(v) vreinterpretq_f32_u32(v)

#if WEFT_FAMILY == WEFT_CORE_FAMILY
WEFT_KERNEL unsigned weft_neon_f_nonfinite(float32x4_t v) {
    const uint32x4_t exponent = vdupq_n_u32(0x7F800000u);
    return vaddvq_u32(vshrq_n_u32(vceqq_u32(vandq_u32(vreinterpretq_u32_f32(v), exponent), exponent), 31));
}

WEFT_KERNEL unsigned weft_neon_d_nonfinite(float64x2_t v) {
    const uint64x2_t exponent = vdupq_n_u64(UINT64_C(0x7FF0000000000000));
    return (unsigned)vaddvq_u64(vshrq_n_u64(vceqq_u64(vandq_u64(vreinterpretq_u64_f64(v), exponent), exponent), 63));
}

/* The products of the 32-bit halves that reach into the low 64 bits. */
WEFT_KERNEL uint64x2_t weft_neon_mul64(uint64x2_t a, uint64_t n) {
    const uint32x2_t low = vmovn_u64(a), high = vshrn_n_u64(a, 32);
    const uint32x2_t cross = vmla_n_u32(vmul_n_u32(low, (uint32_t)(n >> 32)), high, (uint32_t)n);
    return vmlal_n_u32(vshlq_n_u64(vmovl_u32(cross), 32), low, (uint32_t)n);
}
#endif

#define WEFT_ELEMENT 32
#include SUBSPACE_HEADER
#define WEFT_ELEMENT 64
#include SUBSPACE_HEADER

WEFT_FAMILY_TABLES(neon, WEFT_ISA_NEON, NULL)
#undef WEFT_SET_NAME
#endif
#ifdef WEFT_HAVE_WASM
/* WebAssembly's simd128. A module that holds such instructions runs nowhere without them: hence no choice at run time.
 * The vocabulary is that of serial.h. */
#define WEFT_SET_NAME(element, kernel) weft_wasm_##element##_##kernel
#define WEFT_KERNEL WEFT_FN

#define WEFT_F v128_t
#define WEFT_F_LANES 4
#define WEFT_F_SET(a) wasm_f32x4_splat(a)
#define WEFT_F_LOAD(p) wasm_v128_load(p)
#define WEFT_F_STORE(p, v) wasm_v128_store(p, v)
#define WEFT_F_ADD(a, b) wasm_f32x4_add(a, b)
#define WEFT_F_SUB(a, b) wasm_f32x4_sub(a, b)
#define WEFT_F_MUL(a, b) wasm_f32x4_mul(a, b)
#define WEFT_F_DIV(a, b) wasm_f32x4_div(a, b)
#define WEFT_F_NONFINITE(v)                                                                                            \
    ((unsigned)__builtin_popcount((unsigned)wasm_i32x4_bitmask(                                                        \
        wasm_i32x4_eq(wasm_v128_and(v, wasm_i32x4_splat(0x7F800000)), wasm_i32x4_splat(0x7F800000)))))
#define WEFT_F_TO_I(v) (v)

#define WEFT_D v128_t
#define WEFT_D_LANES 2
#define WEFT_D_SET(a) wasm_f64x2_splat(a)
#define WEFT_D_LOAD(p) wasm_v128_load(p)
#define WEFT_D_LOAD32(p) wasm_f64x2_promote_low_f32x4(wasm_v128_load64_zero(p))
#define WEFT_D_STORE(p, v) wasm_v128_store(p, v)
#define WEFT_D_STORE32(p, v) wasm_v128_store64_lane(p, wasm_f32x4_demote_f64x2_zero(v), 0)
#define WEFT_D_ADD(a, b) wasm_f64x2_add(a, b)
#define WEFT_D_SUB(a, b) wasm_f64x2_sub(a, b)
#define WEFT_D_MUL(a, b) wasm_f64x2_mul(a, b)
#define WEFT_D_DIV(a, b) wasm_f64x2_div(a, b)
#define WEFT_D_MADD(sum, a, b) wasm_f64x2_add(sum, wasm_f64x2_mul(a, b))
#define WEFT_D_NONFINITE(v)                                                                                            \
    ((unsigned)__builtin_popcount((unsigned)wasm_i64x2_bitmask(                                                        \
        wasm_i64x2_eq(wasm_v128_and(v, wasm_i64x2_splat(INT64_C(0x7FF0000000000000))),                                 \
                      wasm_i64x2_splat(INT64_C(0x7FF0000000000000))))))

#define WEFT_U v128_t
#define WEFT_U_SET(a) wasm_i64x2_splat((int64_t)(a))
#define WEFT_U_LOAD64(p) wasm_v128_load(p)
#define WEFT_U_LOAD32(p) wasm_u64x2_load32x2(p)
#define WEFT_U_STORE64(p, v) wasm_v128_store(p, v)
#define WEFT_U_ADD(a, b) wasm_i64x2_add(a, b)
#define WEFT_U_XOR(a, b) wasm_v128_xor(a, b)
#define WEFT_U_SHR(a, n) wasm_u64x2_shr(a, n)
#define WEFT_U_MUL(a, b) wasm_i64x2_mul(a, wasm_i64x2_splat((int64_t)(b)))

#define WEFT_I v128_t
#define WEFT_I_SET(a) wasm_i32x4_splat((int32_t)(a))
#define WEFT_I_LOAD16(p) wasm_u32x4_load16x4(p)
/* narrowing saturates, but nothing larger than 16 bits comes here */
#define WEFT_I_STORE16(p, v) wasm_v128_store64_lane(p, wasm_u16x8_narrow_i32x4(v, v), 0)
#define WEFT_I_ADD(a, b) wasm_i32x4_add(a, b)
#define WEFT_I_AND(a, b) wasm_v128_and(a, b)
#define WEFT_I_OR(a, b) wasm_v128_or(a, b)
#define WEFT_I_SHL(a, n) wasm_i32x4_shl(a, n)
#define WEFT_I_SHR(a, n) wasm_u32x4_shr(a, n)
#define WEFT_I_GREATER(a, b) wasm_u32x4_gt(a, b)
#define WEFT_I_SELECT(mask, a, b) wasm_v128_bitselect(a, b, mask)
#define WEFT_I_TO_F(v) (v)

#define WEFT_ELEMENT 32
#include SUBSPACE_HEADER
#define WEFT_ELEMENT 64
#include SUBSPACE_HEADER

WEFT_FAMILY_TABLES(wasm, WEFT_ISA_WASM, NULL)
#undef WEFT_SET_NAME
#endif
#undef WEFT_FAMILY_TABLES
#undef WEFT_FAMILY

#elif defined WEFT_DEVICE_PART

/* ---- src/weft/kernels/cuda.h: section -------------------------------------------------------- */

/* Device kernels (WEFT_CUDA): the works of drivers.h on device pointers, enqueued on the host's stream, with the bits
 * of the serial set. Nothing here allocates or waits. What a work yields goes to device or pinned memory, to be read
 * after the host's own synchronisation. All works of one weft_device go to one stream; what one launch leaves for the
 * next is in device memory.
 *
 * - Every operation is an intrinsic that rounds once, so that no compiler option fuses.
 * - What only maps elements takes packets of 16 bytes (8 of the 16-bit types) where all arrays are aligned alike, and
 *   single elements where they are not. Counts are integers, added up in any order.
 * - Sums: a thread is one of the sixteen lanes of a block, and sees its elements in order. Pieces of sixteen blocks are
 *   taken in order. Their sums are added in order while others are still being computed: whoever has finished a piece
 *   takes a lock and adds up what is ready; who does not get the lock goes on, since its holder looks again after
 *   letting go. Nobody waits for anybody.
 *
 * Tests bring a runtime of their own and define the macros of this paragraph and WEFT_CUDA_RUNTIME (machine.h). */
#ifndef WEFT_LAUNCH
#define WEFT_LAUNCH(error, kernel, grid, block, shared, stream, job)                                                   \
    do {                                                                                                               \
        void *weft_arguments[1] = {(void *)&(job)};                                                                    \
        (error) =                                                                                                      \
            cudaLaunchKernel((const void *)(kernel), dim3(grid), dim3(block), weft_arguments, (shared), (stream));     \
    } while (0)
#endif
#ifndef WEFT_SHARED
#define WEFT_SHARED(type, name) extern __shared__ type name[]
#endif
#ifdef __CUDACC__
#define WEFT_UNROLL _Pragma("unroll")
#else
#define WEFT_UNROLL
#endif
#define WEFT_DEVICE static __device__ __forceinline__

#define WEFT_DEVICE_THREADS 256u
#define WEFT_DEVICE_PIECE (WEFT_DEVICE_THREADS / WEFT_LANES_OF_A_BLOCK) /* blocks that the threads do at a time */
#define WEFT_DEVICE_SOURCES 32u /* that fit the parameters of a launch; more go by a table in the memory */

/* ---- what the host holds ---- */
typedef unsigned long long weft_device_word; /* what atomics take */

typedef struct weft_device_source {
    const void *x;
    double w; /* rounded to the element type, or in f64 for wide sums */
} weft_device_source;

/* Zero between launches, but for `epoch`, which counts those with sums, and so tells what is ready now. */
typedef struct weft_device_state {
    weft_device_word epoch, next, count; /* next: the first piece that is not in the total yet */
    double total[WEFT_SLOTS];
    unsigned lock, done, taken; /* done: blocks of threads; taken: pieces */
} weft_device_state;

typedef struct weft_device {
    cudaStream_t stream;
    weft_device_state *state;
    weft_device_word *ready; /* of each piece: the epoch, plus one, of the last launch that has done it */
    double *slot;            /* WEFT_SLOTS planes of `blocks` sums */
    weft_device_source *table;
    size_t blocks, sources; /* what there is room for */
    unsigned grid;          /* most blocks of threads */
    cudaError_t error;      /* the last one that the runtime gave */
} weft_device;

/* What a launch is told. */
typedef struct weft_device_job {
    weft_op op;
    weft_dtype dtype;
    size_t n, head, packets; /* elements: `head` single ones, packets, single ones */
    void *array[3];
    unsigned reads, writes, sums, counts;
    double a, b, decay; /* rounded to the element type. pull: a = 1 - l, b = l; SGD: rate, momentum, weight decay */
    int nesterov, first_step;
    uint64_t first;
    weft_device own;
    size_t blocks;
    weft_slot *total;
    size_t sources;
    int tabled; /* the sources are in the table */
    int wide;   /* their sum is formed in f64 */
    int go_on;  /* sums begin with what is in `total` */
    int few;    /* cuda_wide.h */
    weft_device_source source[WEFT_DEVICE_SOURCES];
} weft_device_job;

/* ---- elements ---- */
WEFT_DEVICE float weft_device_add(float a, float b) {
    return __fadd_rn(a, b);
}
WEFT_DEVICE double weft_device_add(double a, double b) {
    return __dadd_rn(a, b);
}
WEFT_DEVICE float weft_device_sub(float a, float b) {
    return __fsub_rn(a, b);
}
WEFT_DEVICE double weft_device_sub(double a, double b) {
    return __dsub_rn(a, b);
}
WEFT_DEVICE float weft_device_mul(float a, float b) {
    return __fmul_rn(a, b);
}
WEFT_DEVICE double weft_device_mul(double a, double b) {
    return __dmul_rn(a, b);
}
WEFT_DEVICE float weft_device_div(float a, float b) {
    return __fdiv_rn(a, b);
}
WEFT_DEVICE double weft_device_div(double a, double b) {
    return __ddiv_rn(a, b);
}
/* the product of two floats is exact in f64, so that fusing changes nothing */
WEFT_DEVICE double weft_device_madd(double sum, float a, float b) {
    return __fma_rn((double)a, (double)b, sum);
}
WEFT_DEVICE double weft_device_madd(double sum, double a, double b) {
    return __dadd_rn(sum, __dmul_rn(a, b));
}
WEFT_DEVICE uint64_t weft_device_bits(float v) {
    return __float_as_uint(v);
}
WEFT_DEVICE uint64_t weft_device_bits(double v) {
    return (uint64_t)__double_as_longlong(v);
}
WEFT_DEVICE unsigned weft_device_nonfinite(float v) {
    return (weft_device_bits(v) & 0x7F800000u) == 0x7F800000u;
}
WEFT_DEVICE unsigned weft_device_nonfinite(double v) {
    return (weft_device_bits(v) >> 52 & 0x7FFu) == 0x7FFu;
}

WEFT_DEVICE uint64_t weft_device_mix(uint64_t z) {
    z = (z ^ z >> 30) * WEFT_HASH_MUL1;
    z = (z ^ z >> 27) * WEFT_HASH_MUL2;
    return z ^ z >> 31;
}

/* The 16-bit types as in body.h, which says why. */
WEFT_DEVICE float weft_device_widen(weft_dtype t, unsigned h) {
    const unsigned m = (h & 0x7FFFu) << 13;
    unsigned r;
    if (t == WEFT_BF16) return __uint_as_float(h << 16);
    r = __float_as_uint(__fmul_rn(__uint_as_float(m), __uint_as_float(0x77800000u)));
    if (m > 0x0F7FFFFFu) r = m > 0x0F800000u ? m | 0x7FC00000u : 0x7F800000u;
    return __uint_as_float(r | (h & 0x8000u) << 16);
}

WEFT_DEVICE uint16_t weft_device_narrow(weft_dtype t, float v) {
    const unsigned b = __float_as_uint(v), m = b & 0x7FFFFFFFu, top = m >> 13;
    unsigned r;
    if (t == WEFT_BF16) {
        r = b + (0x7FFFu + (b >> 16 & 1u));
        return (uint16_t)(m > 0x7F800000u ? b >> 16 | 0x40u : r >> 16);
    }
    if (m > 0x7F800000u)
        r = 0x7E00u | (top & 0x3FFu);
    else if (m > 0x477FFFFFu)
        r = 0x7C00u;
    else if (m < 0x38800000u)
        r = __float_as_uint(__fadd_rn(__uint_as_float(m), 0.5f)) + 0xC1000000u;
    else
        r = (m + (0xC8000FFFu + (top & 1u))) >> 13;
    return (uint16_t)(r | (b >> 16 & 0x8000u));
}

/* E elements of what is stored, in one access; as they are computed with, and back. */
template <typename S, unsigned E> struct alignas(sizeof(S) * E) weft_device_packet { S v[E]; };
WEFT_DEVICE float weft_device_in(weft_dtype, float v) {
    return v;
}
WEFT_DEVICE double weft_device_in(weft_dtype, double v) {
    return v;
}
WEFT_DEVICE float weft_device_in(weft_dtype t, uint16_t v) {
    return weft_device_widen(t, v);
}
WEFT_DEVICE void weft_device_out(weft_dtype, float v, float *to) {
    *to = v;
}
WEFT_DEVICE void weft_device_out(weft_dtype, double v, double *to) {
    *to = v;
}
WEFT_DEVICE void weft_device_out(weft_dtype t, float v, uint16_t *to) {
    *to = weft_device_narrow(t, v);
}

template <typename S, unsigned E, typename T>
WEFT_DEVICE void weft_device_get(weft_dtype t, const void *p, size_t i, T *v) {
    const weft_device_packet<S, E> q = *(const weft_device_packet<S, E> *)(const void *)((const S *)p + i);
    WEFT_UNROLL for (unsigned e = 0; e < E; e++) v[e] = (T)weft_device_in(t, q.v[e]);
}

/* Leaves in v what is stored, as it will be read. */
template <typename S, unsigned E, typename T> WEFT_DEVICE void weft_device_put(weft_dtype t, void *p, size_t i, T *v) {
    weft_device_packet<S, E> q;
    WEFT_UNROLL for (unsigned e = 0; e < E; e++) {
        weft_device_out(t, v[e], &q.v[e]);
        v[e] = (T)weft_device_in(t, q.v[e]);
    }
    if (sizeof q == 16) { /* an assignment would be taken apart */
        uint4 whole;
        memcpy(&whole, &q, sizeof q);
        __stwb((uint4 *)((S *)p + i), whole);
    } else if (sizeof q == 8) {
        uint2 whole;
        memcpy(&whole, &q, sizeof q);
        __stwb((uint2 *)((S *)p + i), whole);
    } else
        *(weft_device_packet<S, E> *)((S *)p + i) = q;
}

template <unsigned E> WEFT_DEVICE void weft_device_load(weft_dtype t, const void *p, size_t i, float *v) {
    if (t == WEFT_F32)
        weft_device_get<float, E>(t, p, i, v);
    else
        weft_device_get<uint16_t, E>(t, p, i, v);
}
template <unsigned E> WEFT_DEVICE void weft_device_load(weft_dtype t, const void *p, size_t i, double *v) {
    weft_device_get<double, E>(t, p, i, v);
}
template <unsigned E> WEFT_DEVICE void weft_device_store(weft_dtype t, void *p, size_t i, float *v) {
    if (t == WEFT_F32)
        weft_device_put<float, E>(t, p, i, v);
    else
        weft_device_put<uint16_t, E>(t, p, i, v);
}
template <unsigned E> WEFT_DEVICE void weft_device_store(weft_dtype t, void *p, size_t i, double *v) {
    weft_device_put<double, E>(t, p, i, v);
}

/* ---- works that map elements, or count ---- */

/* E elements from the i-th on; returns their count. What is read is read before anything is written. */
template <typename T, unsigned E> WEFT_DEVICE uint64_t weft_device_step(const weft_device_job &j, size_t i) {
    const T a = (T)j.a, b = (T)j.b;
    T p[3][E];
    uint64_t count = 0;
    WEFT_UNROLL for (unsigned k = 0; k < 3; k++) {
        if (j.reads >> k & 1u)
            weft_device_load<E>(j.dtype, j.array[k], i, p[k]);
        else
            WEFT_UNROLL for (unsigned e = 0; e < E; e++) p[k][e] = 0;
    }
    if (j.op == WEFT_OP_WEIGHTED_SUM) {
        double wide[E]; /* where the sum is one of wide.h: all in f64, rounded once */
        for (size_t s = 0; s < j.sources; s++) {
            const weft_device_source from = j.tabled ? j.own.table[s] : j.source[s];
            weft_device_load<E>(j.dtype, from.x, i, p[1]);
            WEFT_UNROLL for (unsigned e = 0; e < E; e++) {
                if (j.wide) {
                    const double v = weft_device_mul(from.w, (double)p[1][e]);
                    wide[e] = s ? weft_device_add(wide[e], v) : v;
                    p[0][e] = (T)wide[e];
                } else {
                    const T v = weft_device_mul((T)from.w, p[1][e]);
                    p[0][e] = s ? weft_device_add(p[0][e], v) : v;
                }
            }
        }
    }
    WEFT_UNROLL for (unsigned e = 0; e < E; e++) {
        const T x = p[0][e], y = p[1][e];
        switch (j.op) {
        case WEFT_OP_SCALE: p[1][e] = weft_device_mul(a, x); break;
        case WEFT_OP_AXPY: p[1][e] = weft_device_add(y, weft_device_mul(a, x)); break;
        case WEFT_OP_PULL: p[1][e] = weft_device_add(weft_device_mul(a, y), weft_device_mul(b, x)); break;
        case WEFT_OP_PERTURB:
            p[2][e] = y;
            p[1][e] = weft_device_add(y, weft_device_mul(a, x));
            break;
        case WEFT_OP_COUNT: count += weft_device_nonfinite(x); break;
        case WEFT_OP_HASH: count += weft_device_mix(weft_device_bits(x) + WEFT_HASH_KEY * (j.first + i + e + 1)); break;
        default: break;
        }
    }
    WEFT_UNROLL for (unsigned k = 0; k < 3; k++) if (j.writes >> k & 1u)
        weft_device_store<E>(j.dtype, j.array[k], i, p[k]);
    if (j.op == WEFT_OP_WEIGHTED_SUM) /* as stored */
        WEFT_UNROLL for (unsigned e = 0; e < E; e++) count += weft_device_nonfinite(p[0][e]);
    return count;
}

/* Adds up the counts of all threads; the last block of threads leaves the total, and zeros for the next launch. */
WEFT_DEVICE void weft_device_count(weft_device_state *state, weft_slot *total, weft_device_word count) {
    WEFT_SHARED(weft_device_word, weft_shared_words);
    weft_device_word *const part = weft_shared_words;
    for (unsigned half = 16; half; half /= 2) count += __shfl_down_sync(0xFFFFFFFFu, count, half);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = count;
    __syncthreads(); /* all parts are there */
    if (threadIdx.x) return;
    for (unsigned warp = 1; warp < WEFT_DEVICE_THREADS / 32; warp++) count += part[warp];
    if (count) atomicAdd(&state->count, count);
    __threadfence();
    if (atomicAdd(&state->done, 1u) != gridDim.x - 1) return;
    __threadfence();
    total[0].count = atomicExch(&state->count, (weft_device_word)0);
    atomicExch(&state->done, 0u);
}

template <typename T>
static __global__ void __launch_bounds__(WEFT_DEVICE_THREADS) weft_device_elements(const weft_device_job j) {
    const unsigned each = 16 / sizeof(T);
    const size_t threads = (size_t)gridDim.x * WEFT_DEVICE_THREADS, packed = j.packets * each;
    const size_t me = (size_t)blockIdx.x * WEFT_DEVICE_THREADS + threadIdx.x;
    uint64_t count = 0;
    for (size_t i = me; i < j.packets; i += threads) count += weft_device_step<T, each>(j, j.head + i * each);
    for (size_t i = me; i < j.n - packed; i += threads) count += weft_device_step<T, 1>(j, i < j.head ? i : i + packed);
    if (j.counts) weft_device_count(j.own.state, j.total, count);
}

/* ---- works with sums ---- */

/* The elements of one lane of a block, which begins at element `at` and has n: several rows at a time, so that as many
 * loads are under way. Returns how many are not finite. */
template <typename T>
WEFT_DEVICE unsigned weft_device_lane(const weft_device_job &j, size_t at, size_t n, unsigned lane, double *sum) {
    enum { ROWS = 64 / sizeof(T) };
    const T rate = (T)j.a, mu = (T)j.b, decay = (T)j.decay;
    unsigned bad = 0;
    for (size_t row = lane; row < n; row += ROWS * WEFT_LANES_OF_A_BLOCK) {
        T p[3][ROWS];
        WEFT_UNROLL for (unsigned k = 0; k < 3; k++) WEFT_UNROLL for (unsigned r = 0; r < ROWS; r++) {
            const size_t i = row + r * WEFT_LANES_OF_A_BLOCK;
            p[k][r] = 0; /* tails are padded with zeros */
            if ((j.reads >> k & 1u) && i < n) weft_device_load<1>(j.dtype, j.array[k], at + i, &p[k][r]);
        }
        WEFT_UNROLL for (unsigned r = 0; r < ROWS; r++) {
            const T x = p[0][r], y = p[1][r];
            sum[0] = weft_device_madd(sum[0], x, j.sums > 1 || j.op == WEFT_OP_DOT ? y : x);
            if (j.op == WEFT_OP_DOTS) {
                sum[1] = weft_device_madd(sum[1], x, x);
                sum[2] = weft_device_madd(sum[2], y, y);
            } else if (j.op == WEFT_OP_SGD) {
                const T was = p[2][r];
                T d = x;
                bad += weft_device_nonfinite(x);
                if (decay != 0) d = weft_device_add(d, weft_device_mul(decay, was));
                if (mu != 0) {
                    T u = d;
                    if (!j.first_step) u = weft_device_add(weft_device_mul(mu, y), d);
                    p[1][r] = u;
                    d = j.nesterov ? weft_device_add(d, weft_device_mul(mu, u)) : u;
                }
                p[2][r] = weft_device_sub(was, weft_device_mul(rate, d));
            }
        }
        if (j.writes) WEFT_UNROLL for (unsigned k = 0; k < 3; k++) WEFT_UNROLL for (unsigned r = 0; r < ROWS; r++) {
                const size_t i = row + r * WEFT_LANES_OF_A_BLOCK;
                if ((j.writes >> k & 1u) && i < n) weft_device_store<1>(j.dtype, j.array[k], at + i, &p[k][r]);
            }
    }
    return bad;
}

/* A warp, which has seen this piece done, adds up what is ready. */
WEFT_DEVICE void weft_device_add_up(const weft_device_job &j, size_t pieces, size_t piece, weft_device_word epoch) {
    volatile weft_device_state *const s = j.own.state;
    const volatile weft_device_word *const ready = j.own.ready;
    const volatile double *const slot = j.own.slot;
    const unsigned lane = threadIdx.x, all = 0xFFFFFFFFu;
    if (lane == 0) {
        __threadfence(); /* its sums go before it */
        atomicExch(&j.own.ready[piece], epoch + 1);
    }
    for (int again = 1; again;) {
        double total[WEFT_SLOTS], ahead[WEFT_SLOTS], now[WEFT_SLOTS];
        size_t next;
        unsigned locked = 0;
        if (lane == 0) locked = atomicCAS(&j.own.state->lock, 0u, 1u) == 0;
        if (!__shfl_sync(all, locked, 0)) return;
        __threadfence();
        __syncwarp();
        next = s->epoch == epoch ? (size_t)s->next : pieces; /* else all has been added up already */
        again = next < pieces;
        WEFT_UNROLL for (unsigned k = 0; k < WEFT_SLOTS; k++) total[k] =
            j.go_on && !next && k < j.sums ? ((volatile weft_slot *)j.total)[k].sum : s->total[k];
        while (next < pieces) {
            const unsigned is = next + lane < pieces && ready[next + lane] == epoch + 1;
            const unsigned missing = ~__ballot_sync(all, is);
            size_t b = next * WEFT_DEVICE_PIECE, end;
            if (missing & 1u) break;
            __threadfence(); /* after each lane's piece come its sums, */
            __syncwarp();    /* and for all lanes */
            next += missing ? (size_t)__ffs((int)missing) - 1 : 32;
            end = next * WEFT_DEVICE_PIECE < j.blocks ? next * WEFT_DEVICE_PIECE : j.blocks;
            WEFT_UNROLL for (unsigned k = 0; k < WEFT_SLOTS; k++) ahead[k] =
                k < j.sums && b + lane < end ? slot[k * j.own.blocks + b + lane] : 0.0;
            for (; b < end; b += 32) { /* zeros in place of what is not there change no sum */
                WEFT_UNROLL for (unsigned k = 0; k < WEFT_SLOTS; k++) now[k] = ahead[k];
                WEFT_UNROLL for (unsigned k = 0; k < WEFT_SLOTS; k++) ahead[k] =
                    k < j.sums && b + 32 + lane < end ? slot[k * j.own.blocks + b + 32 + lane] : 0.0;
                WEFT_UNROLL for (int i = 0; i < 32; i++) {
                    total[0] = __dadd_rn(total[0], __shfl_sync(all, now[0], i));
                    if (j.sums == 1) continue;
                    total[1] = __dadd_rn(total[1], __shfl_sync(all, now[1], i));
                    total[2] = __dadd_rn(total[2], __shfl_sync(all, now[2], i));
                }
            }
        }
        __syncwarp();
        if (lane == 0) {
            if (again) {
                const int last = next == pieces;
                WEFT_UNROLL for (unsigned k = 0; k < WEFT_SLOTS; k++) s->total[k] = last ? 0.0 : total[k];
                s->next = last ? 0 : next;
                if (last) {
                    WEFT_UNROLL for (unsigned k = 0; k < WEFT_SLOTS; k++) if (k < j.sums) j.total[k].sum = total[k];
                    if (j.counts) j.total[j.sums].count = atomicExch(&j.own.state->count, (weft_device_word)0);
                    s->epoch = epoch + 1;
                }
            }
            __threadfence();
            atomicExch(&j.own.state->lock, 0u);
            /* whoever did not get the lock meanwhile relies on this look */
            again = again && next < pieces && ready[next] == epoch + 1;
        }
        again = __shfl_sync(all, again, 0);
    }
}

/* The next piece, for all threads of the block. */
WEFT_DEVICE size_t weft_device_take(weft_device_state *state) {
    WEFT_SHARED(weft_device_word, weft_shared_words);
    weft_device_word *const part = weft_shared_words;
    if (threadIdx.x == 0) part[0] = atomicAdd(&state->taken, 1u);
    __syncthreads(); /* the piece is there, and is read by all before the next barrier */
    return (size_t)part[0];
}

/* Whoever leaves last puts the pieces back: nobody takes any more. */
WEFT_DEVICE void weft_device_taken(weft_device_state *state) {
    if (threadIdx.x) return;
    __threadfence();
    if (atomicAdd(&state->done, 1u) != gridDim.x - 1) return;
    atomicExch(&state->taken, 0u);
    atomicExch(&state->done, 0u);
}

/* The sixteen lanes of a block in a pairwise tree, to the first one. */
WEFT_DEVICE double weft_device_tree(double sum) {
    for (unsigned half = WEFT_LANES_OF_A_BLOCK / 2; half; half /= 2)
        sum = __dadd_rn(sum, __shfl_down_sync(0xFFFFFFFFu, sum, half, WEFT_LANES_OF_A_BLOCK));
    return sum;
}

template <typename T>
static __global__ void __launch_bounds__(WEFT_DEVICE_THREADS) weft_device_sums(const weft_device_job j) {
    const unsigned lane = threadIdx.x % WEFT_LANES_OF_A_BLOCK, mine = threadIdx.x / WEFT_LANES_OF_A_BLOCK;
    const size_t pieces = (j.blocks - 1) / WEFT_DEVICE_PIECE + 1;
    /* does not change before all pieces are done */
    const weft_device_word epoch = ((const volatile weft_device_state *)j.own.state)->epoch;
    for (;;) {
        const size_t piece = weft_device_take(j.own.state), b = piece * WEFT_DEVICE_PIECE + mine, at = b * WEFT_BLOCK;
        double sum[WEFT_SLOTS] = {0.0, 0.0, 0.0};
        unsigned bad = 0;
        if (piece >= pieces) break;
        if (at < j.n) bad = weft_device_lane<T>(j, at, j.n - at < WEFT_BLOCK ? j.n - at : WEFT_BLOCK, lane, sum);
        if (bad) atomicAdd(&j.own.state->count, (weft_device_word)bad);
        WEFT_UNROLL for (unsigned k = 0; k < WEFT_SLOTS; k++) {
            if (k >= j.sums) break;
            sum[k] = weft_device_tree(sum[k]);
            if (lane == 0 && b < j.blocks) j.own.slot[k * j.own.blocks + b] = sum[k];
        }
        __syncthreads(); /* all blocks' sums are there */
        if (threadIdx.x < 32) weft_device_add_up(j, pieces, piece, epoch);
    }
    weft_device_taken(j.own.state);
}

/* Sources that do not fit one launch's parameters, from those of several to the table. */
static __global__ void weft_device_note(const weft_device_job j) {
    if (threadIdx.x < j.sources) j.own.table[j.first + threadIdx.x] = j.source[threadIdx.x];
}

/* Two arrays change places: n words. */
static __global__ void __launch_bounds__(WEFT_DEVICE_THREADS) weft_device_swap(const weft_device_job j) {
    unsigned *const a = (unsigned *)j.array[0], *const b = (unsigned *)j.array[1];
    const size_t threads = (size_t)gridDim.x * WEFT_DEVICE_THREADS;
    for (size_t i = (size_t)blockIdx.x * WEFT_DEVICE_THREADS + threadIdx.x; i < j.n; i += threads) {
        const unsigned hold = a[i];
        a[i] = b[i];
        b[i] = hold;
    }
}

/* The total is the number of subnormal results that were flushed. */
static __global__ void weft_device_probe(const weft_device_job j) {
    const float tiny = (float)j.a, small = (float)j.b;
    if (threadIdx.x == 0)
        j.total[0].count = (uint64_t)(weft_device_mul(tiny, 1e20f) == 0) + (weft_device_mul(small, 0.5f) == 0);
}

/* ---- on the host ---- */
WEFT_FN weft_status weft_device_said(weft_device *v, cudaError_t error) {
    if (error == cudaSuccess) return WEFT_OK;
    v->error = error;
    return WEFT_ERR_UNSUPPORTED;
}

/* The parts of the memory for tensors of at most n elements and weighted sums of at most `sources`. 0: too large. */
WEFT_FN size_t weft_device_layout(weft_device *v, unsigned char *base, size_t n, size_t sources) {
    weft_layout l;
    memset(&l, 0, sizeof l);
    l.base = base;
    v->blocks = n ? (n - 1) / WEFT_BLOCK + 1 : 1;
    v->sources = sources;
    v->state = (weft_device_state *)weft_layout_take(&l, "device state", 1, sizeof *v->state);
    v->ready = (weft_device_word *)weft_layout_take(&l, "device pieces", (v->blocks - 1) / WEFT_DEVICE_PIECE + 1,
                                                    sizeof *v->ready);
    v->slot = (double *)weft_layout_take(&l, "device sums", v->blocks, WEFT_SLOTS * sizeof *v->slot);
    v->table = (weft_device_source *)weft_layout_take(&l, "device sources", sources > WEFT_DEVICE_SOURCES ? sources : 0,
                                                      sizeof *v->table);
    return weft_layout_total(&l);
}

/* Bytes of device memory that weft_device_init wants; 0: too many. */
WEFT_FN size_t weft_device_bytes(size_t n, size_t sources) {
    weft_device v;
    return weft_device_layout(&v, NULL, n, sources);
}

/* `memory` is device memory and stays lent. Enqueues that it is cleared. */
WEFT_FN weft_status weft_device_init(weft_device *v, cudaStream_t stream, void *memory, size_t bytes, size_t n,
                                     size_t sources) {
    const size_t want = weft_device_bytes(n, sources);
    int device = 0, processors = 0;
    cudaError_t e;
    memset(v, 0, sizeof *v);
    if (!want) return WEFT_ERR_OVERFLOW;
    if (!memory) return WEFT_ERR_ARGUMENT;
    if (bytes < want) return WEFT_ERR_MEMORY;
    v->stream = stream;
    weft_device_layout(v, weft_align_memory(memory), n, sources);
    e = cudaGetDevice(&device);
    if (e == cudaSuccess) e = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    v->grid = (unsigned)processors * (2048u / WEFT_DEVICE_THREADS);
    /* the sums are written before they are read */
    if (e == cudaSuccess)
        e = cudaMemsetAsync(v->state, 0, (size_t)((unsigned char *)v->slot - (unsigned char *)v->state), stream);
    return weft_device_said(v, e);
}

/* One thread for each packet, or each single element if those are more. */
WEFT_FN size_t weft_device_grid(size_t single, size_t packets) {
    const size_t threads = single > packets ? single : packets;
    return threads / WEFT_DEVICE_THREADS + (threads % WEFT_DEVICE_THREADS != 0);
}

template <typename J>
WEFT_FN weft_status weft_device_launch(weft_device *v, void (*kernel)(const J), size_t blocks, const J *job) {
    const unsigned grid = blocks < 1 ? 1 : blocks < v->grid ? (unsigned)blocks : v->grid;
    cudaError_t e = cudaSuccess;
    WEFT_LAUNCH(e, kernel, grid, WEFT_DEVICE_THREADS, sizeof(weft_device_word) * (WEFT_DEVICE_THREADS / 32), v->stream,
                *job);
    return weft_device_said(v, e);
}

/* Two arrays change places: a multiple of four bytes, aligned to as many. */
WEFT_FN weft_status weft_device_exchange(weft_device *v, void *a, void *b, size_t bytes) {
    weft_device_job d;
    memset(&d, 0, sizeof d);
    d.array[0] = a;
    d.array[1] = b;
    d.n = bytes / 4;
    return d.n ? weft_device_launch(v, weft_device_swap, weft_device_grid(d.n, 0), &d) : WEFT_OK;
}

/* As weft_float_probe, of the device: total->count is 0 once the stream has come here, or the kernels were compiled to
 * flush subnormals. */
WEFT_FN weft_status weft_device_float_probe(weft_device *v, weft_slot *total) {
    weft_device_job d;
    memset(&d, 0, sizeof d);
    d.a = (double)weft_bits_f32(1u);
    d.b = (double)weft_bits_f32(0x00800000u);
    d.total = total;
    return weft_device_launch(v, weft_device_probe, 1, &d);
}

/* Arrays that are aligned alike are done by packets from where those are aligned. */
WEFT_FN int weft_device_alike(const void *p, size_t packet, size_t *past, int found) {
    const size_t own = (size_t)((uintptr_t)p % packet);
    if (!found) *past = own;
    return *past == own;
}

/* The sources whose weight counts, in order, to the launch or, launch by launch, to the table. */
WEFT_FN weft_status weft_device_gather(weft_device *v, const weft_work *w, weft_device_job *d, size_t packet,
                                       size_t *past, int *alike) {
    weft_device_job part = *d;
    size_t i, n = 0;
    for (i = 0; i < w->sources; i++) {
        weft_device_source *const to = &part.source[n % WEFT_DEVICE_SOURCES];
        const double weight = d->wide || w->dtype == WEFT_F64 ? w->w[i] : (double)(float)w->w[i];
        if (weight == 0) continue;
        if (n == v->sources) return WEFT_ERR_CAPACITY;
        if (n && n % WEFT_DEVICE_SOURCES == 0) {
            weft_status s;
            part.first = n - WEFT_DEVICE_SOURCES;
            part.sources = WEFT_DEVICE_SOURCES;
            s = weft_device_launch(v, weft_device_note, 1, &part);
            if (s < 0) return s;
        }
        to->x = w->source[i];
        to->w = weight;
        n++;
        *alike &= weft_device_alike(to->x, packet, past, 1);
    }
    d->sources = n;
    memcpy(d->source, part.source, sizeof d->source);
    if (n <= WEFT_DEVICE_SOURCES) return WEFT_OK;
    d->tabled = 1;
    part.first = (n - 1) / WEFT_DEVICE_SOURCES * WEFT_DEVICE_SOURCES;
    part.sources = n - (size_t)part.first;
    return weft_device_launch(v, weft_device_note, 1, &part);
}

/* Enqueues the work (a weighted sum with a != 0: all in f64, rounded once). What it yields, sums first, then counts,
 * goes to `total`: WEFT_SLOTS slots of device or pinned memory, or NULL if it yields nothing or a weighted sum's count
 * is not wanted. Of the work's pointers only those to the arrays and sources are kept. */
WEFT_FN weft_status weft_device_run(weft_device *v, const weft_work *w, weft_slot *total) {
    const size_t each = weft_dtype_bytes(w->dtype), elements = each == 8 ? 2 : 4, packet = elements * each;
    const int wide = w->dtype == WEFT_F64;
    weft_device_job d;
    size_t past = 0, i;
    int alike = 1, found = 0;
    weft_status s;
#define WEFT_ROUNDED(value) (wide ? (value) : (double)(float)(value))
    if (w->op == WEFT_OP_COPY)
        return w->array[0] == w->array[1] || !w->n
                   ? WEFT_OK
                   : weft_device_said(v, cudaMemcpyAsync(w->array[1], w->array[0], w->n * each,
                                                         cudaMemcpyDeviceToDevice, v->stream));
    if (!total && (w->sums || (w->counts && w->op != WEFT_OP_WEIGHTED_SUM))) return WEFT_ERR_ARGUMENT;
    memset(&d, 0, sizeof d);
    d.op = w->op;
    d.dtype = w->dtype;
    d.n = w->n;
    d.reads = w->reads;
    d.writes = w->op == WEFT_OP_WEIGHTED_SUM ? 1u : w->writes;
    d.sums = w->sums;
    d.counts = total ? w->counts : 0;
    d.a = WEFT_ROUNDED(w->op == WEFT_OP_PULL ? 1.0 - w->a : w->a);
    d.b = WEFT_ROUNDED(w->a);
    d.first = w->first;
    d.own = *v;
    d.total = total;
    for (i = 0; i < 3; i++) {
        d.array[i] = w->array[i];
        if (!((d.reads | d.writes) >> i & 1u)) continue;
        alike &= weft_device_alike(d.array[i], packet, &past, found);
        found = 1;
    }
    if (w->sums) {
        d.blocks = d.n ? (d.n - 1) / WEFT_BLOCK + 1 : 1;
        if (d.blocks > v->blocks) return WEFT_ERR_CAPACITY;
        if (w->sgd) {
            d.a = WEFT_ROUNDED(w->sgd->learning_rate);
            d.b = WEFT_ROUNDED(w->sgd->momentum);
            d.decay = WEFT_ROUNDED(w->sgd->weight_decay);
            d.nesterov = w->sgd->nesterov;
            d.first_step = w->sgd->first;
        }
        return weft_device_launch(v, wide ? weft_device_sums<double> : weft_device_sums<float>,
                                  (d.blocks - 1) / WEFT_DEVICE_PIECE + 1, &d);
    }
#undef WEFT_ROUNDED
    if (!d.n && !d.counts) return WEFT_OK;
    if (w->op == WEFT_OP_WEIGHTED_SUM) {
        d.wide = w->a != 0;
        s = weft_device_gather(v, w, &d, packet, &past, &alike);
        if (s < 0) return s;
    }
    if (alike) {
        d.head = past ? (packet - past) / each : 0;
        if (d.head > d.n) d.head = d.n;
        d.packets = (d.n - d.head) / elements;
    }
    return weft_device_launch(v, wide ? weft_device_elements<double> : weft_device_elements<float>,
                              weft_device_grid(d.n - d.packets * elements, d.packets), &d);
}

#else /* WEFT_DEVICE_WIDE */

/* ---- src/weft/kernels/cuda_wide.h: section --------------------------------------------------- */

/* What subspace.h needs of gradients x[0] .. x[count - 1] with factors f, on device pointers: <x_i, s> and <x_i, x_i>,
 * s = the sum of f_j x_j in f64. Formed as on the CPU: four participants or fewer by way of their products with each
 * other, block by block; more by way of s. One launch for each participant, which reads all of them. */

#define WEFT_DEVICE_COLUMNS ((size_t)1024) /* a block, as subspace.h has them */

/* One lane's sums: of four or fewer, participant `mine` with each; else x * s, x * x. */
template <typename T>
WEFT_DEVICE void weft_device_numbers_lane(const weft_device_job &j, size_t at, size_t n, unsigned lane, double *sum) {
    for (size_t row = lane; row < n; row += WEFT_LANES_OF_A_BLOCK) {
        double s = 0.0;
        T x, y;
        weft_device_load<1>(j.dtype, j.array[0], at + row, &x);
        if (j.few) {
            WEFT_UNROLL for (unsigned q = 0; q < 4; q++) if (q < j.sources) {
                weft_device_load<1>(j.dtype, j.source[q].x, at + row, &y);
                sum[q] = weft_device_madd(sum[q], x, y);
            }
            continue;
        }
        for (size_t q = 0; q < j.sources; q++) {
            const weft_device_source from = j.tabled ? j.own.table[q] : j.source[q];
            double v;
            weft_device_load<1>(j.dtype, from.x, at + row, &y);
            v = weft_device_mul(from.w, (double)y);
            s = q ? weft_device_add(s, v) : v;
        }
        sum[0] = weft_device_add(sum[0], weft_device_mul((double)x, s));
        sum[1] = weft_device_madd(sum[1], x, x);
    }
}

template <typename T>
static __global__ void __launch_bounds__(WEFT_DEVICE_THREADS) weft_device_numbers_of(const weft_device_job j) {
    const unsigned lane = threadIdx.x % WEFT_LANES_OF_A_BLOCK, mine = threadIdx.x / WEFT_LANES_OF_A_BLOCK;
    const size_t pieces = (j.blocks - 1) / WEFT_DEVICE_PIECE + 1;
    const weft_device_word epoch = ((const volatile weft_device_state *)j.own.state)->epoch;
    for (;;) {
        const size_t piece = weft_device_take(j.own.state), b = piece * WEFT_DEVICE_PIECE + mine;
        const size_t at = b * WEFT_DEVICE_COLUMNS, left = at < j.n ? j.n - at : 0;
        double sum[4] = {0.0, 0.0, 0.0, 0.0}, own = 0.0;
        if (piece >= pieces) break;
        if (left)
            weft_device_numbers_lane<T>(j, at, left < WEFT_DEVICE_COLUMNS ? left : WEFT_DEVICE_COLUMNS, lane, sum);
        WEFT_UNROLL for (unsigned k = 0; k < 4; k++) sum[k] = weft_device_tree(sum[k]);
        if (j.few) {
            double dot = 0.0;
            WEFT_UNROLL for (unsigned q = 0; q < 4; q++) if (q < j.sources) {
                dot = weft_device_add(dot, weft_device_mul(j.source[q].w, sum[q]));
                if (q == j.first) own = sum[q];
            }
            sum[0] = dot;
            sum[1] = own;
        }
        if (lane == 0 && b < j.blocks) {
            j.own.slot[b] = sum[0];
            j.own.slot[j.own.blocks + b] = sum[1];
        }
        __syncthreads();
        if (threadIdx.x < 32) weft_device_add_up(j, pieces, piece, epoch);
    }
    weft_device_taken(j.own.state);
}

/* Adds the numbers of n elements of one tensor to those in `total` (device or pinned memory; WEFT_SLOTS slots for each
 * participant, zero before the first tensor): [0] <x_i, s>, [1] <x_i, x_i>. Who has factor 0 is not looked at. */
WEFT_FN weft_status weft_device_numbers(weft_device *v, weft_dtype t, size_t n, size_t count, const double *factor,
                                        const void *const *x, weft_slot *total) {
    weft_work w = weft_work_make(NULL, WEFT_OP_DOTS, t, n, NULL, NULL, 0, 0);
    weft_device_job d;
    size_t i, past = 0;
    int alike = 1;
    weft_status s;
    if (!total) return WEFT_ERR_ARGUMENT;
    if (!n) return WEFT_OK;
    w.w = factor;
    w.source = x;
    w.sources = count;
    memset(&d, 0, sizeof d);
    d.dtype = t;
    d.n = n;
    d.sums = 2;
    d.own = *v;
    d.blocks = (n - 1) / WEFT_DEVICE_COLUMNS + 1;
    if (d.blocks > v->blocks) return WEFT_ERR_CAPACITY;
    d.wide = d.go_on = 1;
    d.few = count <= 4;
    s = weft_device_gather(v, &w, &d, 1, &past, &alike);
    for (i = 0; s == WEFT_OK && i < count; i++) {
        if (factor[i] == 0.0) continue;
        d.array[0] = (void *)(uintptr_t)x[i];
        d.total = total + i * WEFT_SLOTS;
        s = weft_device_launch(v, t == WEFT_F64 ? weft_device_numbers_of<double> : weft_device_numbers_of<float>,
                               (d.blocks - 1) / WEFT_DEVICE_PIECE + 1, &d);
        d.first++; /* of those that are looked at */
    }
    return s;
}

/* As subspace.h mixes gradients: w and the sum in f64, the result rounded once; a source of weight 0 is not read. */
WEFT_FN weft_status weft_device_sum_wide(weft_device *v, weft_dtype t, size_t n, size_t sources, const double *w,
                                         const void *const *x, void *out, weft_slot *total) {
    weft_work j = weft_work_make(NULL, WEFT_OP_WEIGHTED_SUM, t, n, out, NULL, 0, 0);
    j.counts = 1;
    j.sources = sources;
    j.w = w;
    j.source = x;
    j.a = 1.0; /* says so */
    return weft_device_run(v, &j, total);
}

#endif

/* ---- licence ----
 *
 * MIT License
 *
 * Copyright (c) 2026 weft authors
 *
 * Permission is hereby granted, free of charge, to any person obtaining a copy
 * of this software and associated documentation files (the "Software"), to deal
 * in the Software without restriction, including without limitation the rights
 * to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
 * copies of the Software, and to permit persons to whom the Software is
 * furnished to do so, subject to the following conditions:
 *
 * The above copyright notice and this permission notice shall be included in all
 * copies or substantial portions of the Software.
 *
 * THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
 * IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
 * FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
 * AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
 * LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
 * OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
 * SOFTWARE.
 */
