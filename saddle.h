/* SPDX-License-Identifier: MIT
 * Generated from src/ by `make headers`: edit the files there, never this one.
 * saddle.h: sharpness-aware decentralised learning over compressed links (SADDLe: Q-SADDLe, N-SADDLe), and what it is
 * built on (QGM, NGC, D-PSGD, DSGDm-N), in plain C, for training processes of any framework.
 *
 * Workers on a graph hold different data. Each takes its gradient where the loss nearby is worst (SAM: at x + eps,
 * eps = rho g / (|g| + 1e-12), with the same mini-batch), steps, and averages its model with its neighbours'. Q-SADDLe
 * keeps a momentum buffer that follows the averaged model (quasi-global momentum); N-SADDLe also takes gradients at the
 * neighbours' models, with its own data, and sends them there (neighbourhood gradient clustering). Flat minima and
 * messages that are compressed go well together.
 * S. Choudhary, S. A. Aketi, K. Roy: "SADDLe: Sharpness-Aware Decentralized Deep Learning with Heterogeneous Data",
 * WACV 2025, arXiv 2405.13961. The authors have published no code of it; steps follow the published code of its parts:
 * T. Lin et al., "Quasi-Global Momentum", arXiv 2102.04761; S. A. Aketi et al., "Neighborhood Gradient Clustering",
 * arXiv 2209.14390; P. Foret et al., "Sharpness-Aware Minimization", arXiv 2010.01412; A. Koloskova et al., CHOCO-SGD,
 * arXiv 1902.00340; H. Tang et al., DeepSqueeze, arXiv 1907.07346. Where the climb goes in N-SADDLe (at the neighbour's
 * model, along the very gradient taken there) and the orders of steps are this library's reading.
 *
 * ---- Quick start ----
 *
 *   #define SADDLE_IMPLEMENTATION           // in exactly one source file
 *   #include "saddle.h"
 *
 *   weft_tensor t[] = { {w1, n1, WEFT_F32}, {b1, n2, WEFT_F32} };    // your parameters, where they are
 *   weft_tensors params = {t, 2};
 *   weft_transport net = weft_transport_make(&my_net, rank, size, my_send, my_recv, my_test, my_cancel, my_now);
 *   weft_graph graph;                       // who is whose neighbour: the same on all workers
 *   weft_graph_ring(&graph, size, graph_memory, sizeof graph_memory);
 *
 *   saddle_desc d = {sizeof d};             // zero is the default everywhere
 *   d.params = params; d.transport = &net; d.graph = &graph;
 *   d.variant = SADDLE_N; d.rho = 0.1; d.learning_rate = 0.05; d.codec = weft_codec_q8();
 *   size_t bytes = saddle_memory(&d, NULL); // exact; a report names every buffer
 *   saddle *x; weft_status s = saddle_init(&x, &d, malloc(bytes), bytes);
 *   if (s < 0) return fail(weft_strerror(s), NULL);
 *
 *   for (;;) {
 *       batch = next_batch();
 *       saddle_want w;
 *       while ((s = saddle_next(x, &w)) != WEFT_OK) {       // WEFT_OK: the step is complete, parameters updated
 *           if (s == WEFT_WANT_GRADIENT) gradient(model, batch, w.at, w.into);
 *           else if (s == WEFT_AGAIN) do_something_useful();
 *           else return fail(weft_strerror(s), saddle_detail(x));
 *       }
 *   }
 *   if ((s = saddle_leave(x)) == WEFT_AGAIN) s = saddle_wait(x, NULL);
 *   saddle_close(x);                        // a neighbour that is lost is no error: saddle_stats counts
 *
 * The five callbacks are your network, or an adapter: their rules are "The transport contract", below; set net.wait,
 * too, if it can sleep. weft_transport_selftest tries yours. After WEFT_ERR_TIMEOUT one may wait again, as long again.
 *
 * (Where {sizeof d} draws a warning about missing initialisers: {0} in C, {} in C++, and d.struct_size = sizeof d.)
 *
 * ---- The verbs ----
 *
 * saddle_next carries a step on as far as it goes without waiting: WEFT_WANT_GRADIENT: compute the gradient of your
 * mini-batch's mean loss with the parameters w.at into w.into, and call saddle_next again, which takes it as there;
 * WEFT_AGAIN: neighbours are awaited, call it again later; WEFT_OK: the step is done, the next call begins another. All
 * gradients of a step are of the same mini-batch, without weight decay. An error (< 0) is explained by saddle_detail.
 * saddle_wait does the same and sleeps in the transport instead of saying WEFT_AGAIN; saddle_step takes a callback for
 * gradients. saddle_poll moves messages while you compute. Between WEFT_OK and the next saddle_next the parameters are
 * yours; until then they are lent. No verb allocates, prints or reads the environment; one object belongs to one thread
 * at a time. saddle_state tells which verbs are legal; a wrong one is WEFT_ERR_ORDER and changes nothing.
 *
 * ---- Which verb when ----
 *
 *                             fresh    idle     wanted   busy     left
 *   saddle_next               y        y        y        y        -
 *   saddle_wait               y        y        y        y        y
 *   saddle_step               y        y        y        y        -
 *   saddle_poll               y        y        y        y        y
 *   saddle_set_learning_rate  y        y        -        -        -
 *   saddle_leave              y        y        -        -        -
 *   saddle_peer_lost          y        y        y        y        -
 *   saddle_peer_up            y        y        y        y        -
 *   saddle_save               y        y        -        -        -
 *   saddle_save_to            y        y        -        -        -
 *   saddle_load               y        -        -        -        -
 *   saddle_load_from          y        -        -        -        -
 *
 * fresh: nothing has been called, or setters only. idle: a step is done. wanted: a verb has returned
 * WEFT_WANT_GRADIENT, and any of those that go on hands the gradient over. busy: it has returned WEFT_AGAIN. left:
 * saddle_leave is done (saddle_wait then says WEFT_OK). A lost neighbour makes no other state. A dash is
 * WEFT_ERR_ORDER and changes nothing; saddle_state tells the same in bits. The readers (stats, effective, detail,
 * fault, link, buffer, state) and saddle_close are legal in all; after close nothing is.
 *
 * ---- Threads and callbacks ----
 *
 * One object belongs to one thread at a time; any number of objects may live in a process, each with a `channel` of
 * its own on a shared transport. Transport callbacks and `trace` are called by the thread that called the verb, from
 * within it; the pool's parallel_for is, too, and its bodies run on the pool's threads and call nothing of yours. A
 * callback that calls a verb of its object gets WEFT_ERR_REENTRY; readers and verbs of other objects are allowed.
 * Callbacks must return: only `wait` may sleep. `weight` and `active` are called in the same way, and must give the
 * same answer for the same arguments.
 *
 * ---- Errors, and what to do ----
 *
 * WEFT_ERR_, all below 0; saddle_detail names peer, phase, field and both values.
 *
 *   ARGUMENT, ABI, MEMORY, OVERFLOW             a descriptor or an argument is wrong: detail.field names it, with what
 *                                               is expected and what was got; nothing has happened
 *   FLOAT_ENV, UNSUPPORTED                      of init: floats are not computed as they must be, or the setting does
 *                                               not exist here
 *   ORDER, REENTRY                              a dash of the table; a verb called from its own callback; nothing has
 *                                               happened
 *   TIMEOUT                                     nothing has moved for timeout_ns: poll on, or tell of a loss
 *                                               (saddle_peer_lost)
 *   MISMATCH, VERSION                           a neighbour has other settings, or another version of this header, and
 *                                               was refused; detail has both values; the others go on
 *   NONFINITE                                   by `guard`, and where the result of a step is not finite: see below
 *   CAPACITY                                    of save: detail.expected bytes are needed
 *   ARGUMENT, VERSION, CHECKSUM, MISMATCH       of load: no blob, a damaged one, or one of other settings; the object
 *                                               is as before
 *   none                                        a neighbour that is lost, says nonsense, or whose link fails: its link
 *                                               ends. stats.lost counts, saddle_link tells which; after nonsense
 *                                               saddle_fault says why
 *
 * ---- Variants: settings of one machine ----
 *
 *   variant        rho    cross-gradients  momentum     order
 *   SADDLE_Q       0.05   no               quasi-global adapt, then combine
 *   SADDLE_N       0.05   yes              local        combine while adapting
 *   SADDLE_QGM     0      no               quasi-global adapt, then combine
 *   SADDLE_NGC     0      yes              local        combine while adapting
 *   SADDLE_DPSGD   0      no               none         adapt, then combine
 *   SADDLE_DSGDM   0      no               local        adapt, then combine
 *
 * With g the (SAM) gradient, N-SADDLe: the weighted mean of those of the neighbourhood, plus weight_decay * x:
 *   momentum       local: v = beta v + g, u = v (nesterov: g + beta v)
 *                  quasi-global: m = beta mh + g, u = m (nesterov: g + beta m); after the step
 *                  mh = mu mh + (1 - mu) (x before - x after) / eta
 *   adapt, then combine (ATC)       gradient at x; h = x - eta u; x = h + gamma sum_j w_ij (h_j - h)
 *   combine, then adapt (CTA)       y = x + gamma sum_j w_ij (x_j - x); gradient at y; x = y - eta u
 *   combine while adapting (CWA)    gradient at x; x = x + gamma sum_j w_ij (x_j - x) - eta u
 * With cross-gradients, G(k; l) being that of k's data at l's model, and share = a:
 *   g = (1 - a) (w_ii G(i; i) + sum_j w_ij G(i; j)) + a (w_ii G(i; i) + sum_j w_ij G(j; i))
 * All of CTA is how the published codes go about it; in it G(i; i) is taken at y and G(i; j) at the x_j that came.
 *
 * ---- Compression ----
 *
 * `codec` makes the messages of models, and of cross-gradients unless gradient_codec says otherwise. What a codec takes
 * away of models is dealt with by `feedback`:
 *   SADDLE_DIFFERENCE (default; CHOCO) each worker keeps a public copy of its model that all its neighbours have, too,
 *                     and sends C(z - copy), which all add to it; copies are averaged
 *   SADDLE_FEEDBACK   (DeepSqueeze) sends C(z + e), e = z + e - C(z + e); what was sent is averaged. With weak codecs
 *                     the models stay far apart
 * Either way the mean of all workers goes where the mean of their steps takes it. Cross-gradients have an error memory
 * for each neighbour (gradient_feedback); a worker's own gradient is used as it is (compress_self: coded, too).
 *
 * ---- Extra memory ----
 *
 * In units of the model (d numbers), k neighbours: 2 (x + eps, and the gradient, later the sum of what comes), 1 for
 * momentum, 1 for feedback; CTA and CWA 1 more; compress_self 1 more; cross-gradients 1 more and k coded messages;
 * SADDLE_DIFFERENCE k more, with cross-gradients that are coded k more for their error memories. Pieces: k + 1 of
 * piece_bytes (k + 2 with SADDLE_DIFFERENCE). saddle_memory names every buffer.
 *
 * With P the bytes of the parameters (each tensor rounded up to 64) and p = min(piece_bytes, the largest tensor), on
 * 64-bit machines, for k neighbours: SADDLE_Q 3 P + (k + 1) p + 1.5 KB k + 2 KB, with a codec (k + 4) P + (k + 2) p;
 * SADDLE_N without one (k + 5) P + (k + 1) p.
 *
 * ---- On the wire ----
 *
 * A step sends each neighbour the model as the codec has it (weft_codec_bytes, piece by piece), with cross-gradients
 * twice as much, and a control message of 36 bytes. A link that is new in the middle of a run gets a whole public copy
 * with its first message (SADDLE_DIFFERENCE).
 *
 * ---- With your trainer ----
 *
 * optimiser         this is one: SGD with momentum, Nesterov, weight decay. saddle_set_learning_rate between steps.
 * one model only    where a network computes at one place only: `in_place`: w.at is always your params; what is to be
 *                   differentiated is put there, and the parameters are put back.
 * BatchNorm         statistics are not parameters, they stay local; at neighbours' models they do not fit.
 * 16-bit weights    refused: keep f32 (or f64) ones.
 * NaN, infinity     a gradient that is not finite is refused (WEFT_ERR_NONFINITE): compute it again and call
 *                   saddle_next. Or SADDLE_GUARD_ZERO: it counts as zeros, and is counted.
 *
 * ---- What is guaranteed when things fail ----
 *
 * Steps are in lock-step with the neighbours: a slow one holds you up (timeout_ns says so once and polling may go on).
 * A neighbour that is lost, or says nonsense, is no error: this step and all later ones go on without it. (Numbers that
 * are finite are not nonsense: a neighbour that sends 1e38 can spoil the result.) Metropolis weights are of who takes
 * part, each step anew: neighbours tell each other how many they have. So averaging is symmetric and doubly stochastic,
 * and the mean of all workers goes where their steps take it, in every step but those in which a link fails: there one
 * end may have averaged and the other not. A worker that comes again (or late) agrees with each neighbour on the step
 * from which on they exchange (saddle_peer_up on both ends); one that is behind all of them takes over the number of
 * the step. What error memories hold is kept for whoever comes next. A worker whose result is not finite says so, tells
 * its neighbours that it is out, and can only be closed. Where own weights leave a worker none for itself, and all
 * neighbours are lost in the middle of a step, that step has no gradient.
 *
 * ---- What is assumed of the host ----
 *
 * For each (peer, tag) the transport delivers exactly once, in order, and undamaged; a lost peer is an error or a call
 * of saddle_peer_lost; a worker that is declared lost sends no more (or as a newcomer). `now` does not go back. The
 * memory given, tensor lists and transport stay where they are until saddle_close. Float arithmetic is IEEE 754,
 * rounding to nearest, without flushing (checked at init). All of it is tested by weft_transport_selftest as far as a
 * test can tell.
 *
 * ---- History ----
 *
 * 0.1.0 the first version. A minor version may change API, messages and blobs, a patch none of them; all workers of a
 * job run one version (CHANGELOG.md of the repository). */

/* These are defined only while this file includes itself: see its end. */
#if !defined WEFT_ELEMENT && !defined WEFT_FAMILY && !defined WEFT_DEVICE_PART && \
    !defined WEFT_DEVICE_CODEC

/* What this file is called, if you rename it: it includes itself by this name. */
#ifndef SADDLE_HEADER
#define SADDLE_HEADER "saddle.h"
#endif

#if defined WEFT_VERSION && WEFT_VERSION != 100
#error "two versions of weft in one unit"
#endif

#ifndef SADDLE_H
#define SADDLE_H

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

/* ---- src/weft/link.h: API -------------------------------------------------------------------- */
#ifndef WEFT_LINK_API
#define WEFT_LINK_API

/* What there is between this worker and a neighbour. */
typedef enum weft_link_state {
    WEFT_LINK_DOWN = 0,    /* lost, or never there; X_peer_up opens it */
    WEFT_LINK_OPENING = 1, /* this end has said hello, and waits for an answer */
    WEFT_LINK_UP = 2,
    WEFT_LINK_LEFT = 3 /* the neighbour has said good-bye */
} weft_link_state;

#endif /* WEFT_LINK_API */

/* ---- src/weft/graph.h: API ------------------------------------------------------------------- */
#ifndef WEFT_GRAPH_API
#define WEFT_GRAPH_API

/* ---- Graphs ----
 *
 * An undirected, connected graph over the workers 0 .. workers - 1, the same on all of them. Made once, by one of the
 * constructors below, in memory of the host; it is never written again, so any number of objects and threads may read
 * it. It must outlive the objects that were given it; the struct itself may be copied.
 *
 *     static unsigned char memory[WEFT_GRAPH_BYTES(32, 64)];          // workers, edges
 *     weft_graph graph;
 *     weft_status s = weft_graph_torus(&graph, 4, 8, memory, sizeof memory);
 *
 * or, where the number of edges is not known when compiling,
 *
 *     weft_graph_torus(&graph, rows, columns, NULL, 0);               // measures: graph.bytes
 *     s = weft_graph_torus(&graph, rows, columns, malloc(graph.bytes), graph.bytes);
 *
 * Every function here but the doctor can be called in every unit that includes this header. */

/* The edge between a and b. */
typedef struct weft_edge {
    uint32_t a, b;
} weft_edge;

#define WEFT_NO_EDGE UINT32_MAX

typedef struct weft_graph {
    size_t struct_size; /* sizeof(weft_graph) where it was made */
    uint32_t workers;   /* 0: there is no graph here (it was refused, or only measured) */
    uint32_t edges;
    uint32_t least_degree, most_degree;
    /* Worker i's neighbours, ascending: neighbour[offset[i]] .. neighbour[offset[i + 1] - 1]. */
    const uint32_t *offset;    /* workers + 1 */
    const uint32_t *neighbour; /* 2 edges */
    /* Edges have numbers: sorted by (lower end, higher end). Those whose lower end is i begin with upper[i]. */
    const uint32_t *upper; /* workers + 1 */
    size_t bytes;          /* of memory, alignment slack included: what the constructor needs */
    weft_detail detail;    /* why the constructor refused */
} weft_graph;

/* Bytes of memory for a graph; a constant expression for constants. Mind the overflow: constructors do. */
#define WEFT_GRAPH_BYTES(workers, edges) (4 * (2 * ((size_t)(workers) + 1) + 2 * (size_t)(edges)) + 3)

/* ---- Constructors ----
 *
 * All of them: `memory` of any alignment, at least graph->bytes bytes. With memory NULL and bytes 0 they only measure:
 * WEFT_OK, graph->bytes is set, and there is no graph yet. Errors, with the names and both values in graph->detail:
 * WEFT_ERR_ARGUMENT (a size, a probability, an edge), WEFT_ERR_MEMORY (too small), WEFT_ERR_OVERFLOW (more than
 * UINT32_MAX / 2 edges, or bytes that do not fit size_t). A graph of one worker and no edges is legal; what would be a
 * second edge between the same two workers (a ring of two) is left out. Random ones are drawn from a counter-based
 * generator: equal arguments give equal graphs on every machine. */

/* 0 - 1 - ... - (workers - 1) - 0 and the same without the last edge. */
WEFT_INLINE weft_status weft_graph_ring(weft_graph *graph, uint32_t workers, void *memory, size_t bytes);
WEFT_INLINE weft_status weft_graph_chain(weft_graph *graph, uint32_t workers, void *memory, size_t bytes);
/* Worker 0 and all others. */
WEFT_INLINE weft_status weft_graph_star(weft_graph *graph, uint32_t workers, void *memory, size_t bytes);
/* Everybody and everybody: workers^2 / 2 edges. */
WEFT_INLINE weft_status weft_graph_complete(weft_graph *graph, uint32_t workers, void *memory, size_t bytes);
/* Worker r * columns + c at (r, c), its four neighbours above, below, left and right, around the corners. */
WEFT_INLINE weft_status weft_graph_torus(weft_graph *graph, uint32_t rows, uint32_t columns, void *memory,
                                         size_t bytes);
/* 2^dimensions workers; neighbours differ in one bit. */
WEFT_INLINE weft_status weft_graph_hypercube(weft_graph *graph, uint32_t dimensions, void *memory, size_t bytes);
/* The undirected form of the exponential graph: i and j are neighbours if i - j or j - i is a power of two modulo
 * `workers`. (In the directed form each sends to i + 2^k only, which is doubly stochastic, too, but not symmetric;
 * this is it with every edge used in both directions.) At most 2 log2(workers) neighbours each. */
WEFT_INLINE weft_status weft_graph_exponential(weft_graph *graph, uint32_t workers, void *memory, size_t bytes);
/* Erdos-Renyi: every pair of workers is an edge with this probability, 0 < probability <= 1; drawn again until it is
 * connected, refused (WEFT_ERR_ARGUMENT) if WEFT_GRAPH_DRAWS draws are not, as below ln(workers) / workers. Tests
 * each of workers^2 / 2 pairs. The bytes are a bound on the draws: one of more edges (chance below 1e-19) is thrown
 * away. */
WEFT_INLINE weft_status weft_graph_erdos_renyi(weft_graph *graph, uint32_t workers, double probability, uint64_t seed,
                                               void *memory, size_t bytes);
/* Small world (Watts, Strogatz 1998): a ring in which everybody knows the next degree / 2 workers on either side; then
 * every edge, with probability `rewire`, keeps its first end and gets another second end, drawn from all workers that
 * are not yet its neighbours (it stays where 1,024 drawn all are). degree: even, 2 <= degree < workers. Drawn again
 * until it is connected, as above. */
WEFT_INLINE weft_status weft_graph_small_world(weft_graph *graph, uint32_t workers, uint32_t degree, double rewire,
                                               uint64_t seed, void *memory, size_t bytes);
/* Any edges, in any order, each once, in either direction; `edge` is copied. Refused (detail.field): an end that is no
 * worker (expected: the highest legal; got: that end; peer: the other end), a worker joined to itself (expected,
 * got: its number), an edge listed twice (expected, got: both places in the list; peer: its lower end), and a graph
 * that is not connected (expected: workers; got: how many worker 0 reaches; peer: the first that it does not). */
WEFT_INLINE weft_status weft_graph_from_edges(weft_graph *graph, uint32_t workers, const weft_edge *edge, size_t count,
                                              void *memory, size_t bytes);

#define WEFT_GRAPH_DRAWS 256u

/* One-peer exponential: a graph that changes with the round, in which everybody has one peer, or none (then it is the
 * worker itself). Round t pairs workers at distance 2^k, k = t modulo ceil(log2(workers)), so that all edges are in
 * weft_graph_exponential. It is mutual: peer(peer(i)) = i, hence weights of 1/2 are symmetric and doubly stochastic.
 * If `workers` is a power of two, log2(workers) rounds form the exact mean; else partners (and who is left over)
 * change from cycle to cycle, and the product of rounds forms the mean in the limit. Needs no graph. */
WEFT_INLINE uint32_t weft_graph_one_peer(uint32_t workers, uint64_t round, uint32_t worker);

/* ---- Questions ----
 *
 * Numbers that are no worker's have no neighbours and no edges: what comes off the wire may be asked about. */

WEFT_INLINE uint32_t weft_graph_degree(const weft_graph *graph, uint32_t i);
/* i's neighbours, ascending; *count may be 0. */
WEFT_INLINE const uint32_t *weft_graph_neighbours(const weft_graph *graph, uint32_t i, uint32_t *count);
/* Where j stands among i's neighbours, 0 .. degree - 1, or WEFT_NO_EDGE. Takes log2(degree) steps. */
WEFT_INLINE uint32_t weft_graph_slot(const weft_graph *graph, uint32_t i, uint32_t j);
WEFT_INLINE int weft_graph_has_edge(const weft_graph *graph, uint32_t i, uint32_t j);
/* The number of the edge between i and j, 0 .. edges - 1, in either direction; WEFT_NO_EDGE if there is none. It
 * depends on nothing but the graph. */
WEFT_INLINE uint32_t weft_graph_edge_index(const weft_graph *graph, uint32_t i, uint32_t j);
/* The ends of an edge, a < b; both WEFT_NO_RANK if there is no such edge. */
WEFT_INLINE weft_edge weft_graph_edge(const weft_graph *graph, uint32_t index);

/* Where part of the workers is lost, or does not take part: present[i] is not 0 for those that are there; NULL: all. */

/* i's neighbours that are there; 0 if i is not. */
WEFT_INLINE uint32_t weft_graph_degree_among(const weft_graph *graph, const unsigned char *present, uint32_t i);
/* How many parts the present workers fall into; label[i] becomes the lowest worker of i's part, WEFT_NO_RANK for those
 * that are not there. `label` has room for all workers. */
WEFT_INLINE uint32_t weft_graph_parts(const weft_graph *graph, const unsigned char *present, uint32_t *label);
/* Is there a way from every present worker to every other over present ones? `label` as above. */
WEFT_INLINE int weft_graph_connected(const weft_graph *graph, const unsigned char *present, uint32_t *label);

/* ---- Weights ----
 *
 * How much of worker j's parameters goes into worker i's: a matrix that is never formed. Both rules are symmetric and
 * doubly stochastic, whoever is present; those who are not keep what they have (1 for themselves, 0 else). */
typedef enum weft_mixing_rule {
    /* Metropolis: 1 / (1 + the larger of both degrees), degrees among those present. L. Xiao, S. Boyd, S. Lall: "A
     * scheme for robust distributed sensor fusion based on average consensus", IPSN 2005. */
    WEFT_METROPOLIS = 0,
    /* Every edge alike: 1 / (1 + most_degree), of the whole graph. The same weights whoever is present. */
    WEFT_UNIFORM = 1,
    WEFT_OWN_WEIGHTS = 2 /* the host's own, for the doctor to look at */
} weft_mixing_rule;

/* The weight of j in i's average, i == j included; must return the same for the same pair. */
typedef double (*weft_weight_fn)(void *ctx, uint32_t i, uint32_t j);

/* Zeroed: Metropolis, everybody present. */
typedef struct weft_mixing {
    weft_mixing_rule rule;
    const unsigned char *present; /* one a worker, as above; NULL: all */
    weft_weight_fn weight;        /* WEFT_OWN_WEIGHTS only */
    void *ctx;                    /* its first argument */
} weft_mixing;

/* One weight. 0 where there is no edge; what is left to 1 where i == j. For i == j it looks at all neighbours (for
 * Metropolis with `present`: and at theirs); else at i and j only. */
WEFT_INLINE double weft_graph_weight(const weft_graph *graph, const weft_mixing *mixing, uint32_t i, uint32_t j);
/* A whole row: weight[k] is that of i's k-th neighbour; returned: that of i itself. The sum of the row differs from 1
 * by less than 2^-53, however many there are (a plain sum of doubles rounds on its way). weight may be NULL. */
WEFT_INLINE double weft_graph_row(const weft_graph *graph, const weft_mixing *mixing, uint32_t i, double *weight);

/* Rounds until the workers' distance from their mean is `factor` (0 < factor < 1) of what it was, at worst, if each
 * round shrinks it to 1 - gap: the least t with (1 - gap)^t <= factor, to 1 in 1e4 (gap >= 1e-12) and never off by
 * more than 1 for gap >= 1e-6; UINT64_MAX: never. */
WEFT_INLINE uint64_t weft_graph_rounds(double gap, double factor);

/* ---- The doctor ----
 *
 * Looks at a graph with weights on it and says what averaging over it will do. The function is there in the unit that
 * defines an X_IMPLEMENTATION:
 *
 *     weft_doctor_report r;
 *     weft_graph_doctor(&graph, NULL, NULL, 0, &r);                           // measures: r.bytes
 *     weft_status s = weft_graph_doctor(&graph, NULL, malloc(r.bytes), r.bytes, &r);
 *     if (s == WEFT_OK && r.verdict != WEFT_GRAPH_SOUND) puts(r.text);
 *
 * weft_status weft_graph_doctor(const weft_graph *graph, const weft_mixing *mixing, void *memory, size_t bytes,
 *                               weft_doctor_report *report);
 *
 * mixing NULL: Metropolis, everybody present. Memory of any alignment, needed for the call only, about 116 bytes a
 * worker; memory NULL and bytes 0: measures only. Errors (report->detail): WEFT_ERR_ARGUMENT, WEFT_ERR_MEMORY,
 * WEFT_ERR_OVERFLOW, WEFT_ERR_ABI (a graph of another version). A bad graph is no error: WEFT_OK, and the verdict says
 * so. */

/* The first of these that applies. From WEFT_GRAPH_SLOW on the graph can be used. */
typedef enum weft_graph_verdict {
    WEFT_GRAPH_SOUND = 0,
    WEFT_GRAPH_NOT_FINITE,    /* a weight is NaN or infinite */
    WEFT_GRAPH_NEGATIVE,      /* a weight is below 0 */
    WEFT_GRAPH_NOT_SYMMETRIC, /* worker `worst` and a neighbour weigh each other differently */
    WEFT_GRAPH_ROW_SUM,       /* worker `worst`'s weights do not add up to 1 */
    WEFT_GRAPH_PARTED,        /* worker `worst` is not reached from the lowest present one */
    WEFT_GRAPH_SWINGS,        /* two halves exchange their values for ever: the eigenvalue -1 */
    WEFT_GRAPH_STANDS_STILL,  /* connected by edges of weight 0, or nearly so: no gap to be seen */
    WEFT_GRAPH_SLOW,          /* more than WEFT_DOCTOR_SLOW rounds to a thousandth, or too many to tell */
    WEFT_GRAPH_HUB,           /* worker `worst` has WEFT_DOCTOR_HUB times as many neighbours as the mean */
    WEFT_GRAPH_THREAD         /* worker `worst` hangs on one edge: its loss parts it from all */
} weft_graph_verdict;

#define WEFT_DOCTOR_SLOW 500u
#define WEFT_DOCTOR_HUB 4u

typedef struct weft_doctor_report {
    size_t bytes; /* of memory needed, alignment slack included */
    weft_graph_verdict verdict;
    const char *text;                       /* the verdict in one line: static text, never NULL */
    uint32_t worst;                         /* a worker that the verdict names, or WEFT_NO_RANK */
    uint32_t present;                       /* workers looked at */
    uint32_t parts;                         /* 1: connected */
    uint32_t least_degree, most_degree;     /* among those present */
    uint32_t diameter_least, diameter_most; /* the diameter lies between; both 0 if parted */
    double asymmetry;                       /* largest |w_ij - w_ji| */
    double row_error;                       /* largest |sum of a row - 1|; of a column, too, where it is symmetric */
    double least_weight;                    /* the smallest on an edge or on a worker itself */
    /* 1 - the largest modulus of all eigenvalues but the one of the mean: each round shrinks the distance from the
     * mean to 1 - gap, at worst. 0 if there is none (parted, or verdicts before that, for which it is not computed). */
    double gap;
    double highest, lowest; /* the extreme eigenvalues but the one of the mean: their moduli make the gap */
    /* An eigenvalue lies within this of the one that makes the gap: 1e-12 or better, unless the iteration reached its
     * bound (as on a chain of 100,000): then the gap may be smaller than told. */
    double accuracy;
    uint32_t steps;     /* of the iteration */
    uint64_t rounds;    /* predicted, to a thousandth of the distance; UINT64_MAX: never */
    weft_detail detail; /* why it was refused */
} weft_doctor_report;

/* ---- How graphs are made ---- */

#ifdef WEFT_NO_STRINGS
#define WEFT_GRAPH_TEXT(s) ""
#else
#define WEFT_GRAPH_TEXT(s) (s)
#endif

/* There is no graph then. */
WEFT_INLINE weft_status weft_graph_refuse(weft_graph *g, weft_status status, const char *field, uint64_t expected,
                                          uint64_t got) {
    g->workers = g->edges = g->least_degree = g->most_degree = 0;
    g->offset = g->neighbour = g->upper = NULL;
    g->detail.status = status;
    g->detail.field = field;
    g->detail.expected = expected;
    g->detail.got = got;
    return status;
}

/* The arrays while they are written. */
typedef struct weft_graph_arrays {
    uint32_t *offset, *upper, *neighbour; /* NULL: only measuring */
} weft_graph_arrays;

/* Checks the sizes and hands out the memory. `edges` is what the memory is for. */
WEFT_INLINE weft_status weft_graph_begin(weft_graph *g, uint64_t workers, uint64_t edges, void *memory, size_t bytes,
                                         weft_graph_arrays *a) {
    uint64_t need;
    a->offset = a->upper = a->neighbour = NULL;
    if (workers == 0 || workers >= WEFT_NO_RANK)
        return weft_graph_refuse(g, WEFT_ERR_ARGUMENT, WEFT_GRAPH_TEXT("workers"), workers ? WEFT_NO_RANK - 1u : 1u,
                                 workers);
    if (edges > UINT32_MAX / 2)
        return weft_graph_refuse(g, WEFT_ERR_OVERFLOW, WEFT_GRAPH_TEXT("edges"), UINT32_MAX / 2, edges);
    need = 4 * (2 * (workers + 1) + 2 * edges) + 3;
    if (need > SIZE_MAX) return weft_graph_refuse(g, WEFT_ERR_OVERFLOW, WEFT_GRAPH_TEXT("bytes"), SIZE_MAX, need);
    g->bytes = (size_t)need;
    if (!memory && !bytes) return WEFT_OK;
    if (!memory) return weft_graph_refuse(g, WEFT_ERR_ARGUMENT, WEFT_GRAPH_TEXT("memory"), need, 0);
    if (bytes < need) return weft_graph_refuse(g, WEFT_ERR_MEMORY, WEFT_GRAPH_TEXT("bytes"), need, bytes);
    a->offset = (uint32_t *)(void *)((unsigned char *)memory + (4 - (uintptr_t)memory % 4) % 4);
    a->upper = a->offset + (size_t)(workers + 1);
    a->neighbour = a->upper + (size_t)(workers + 1);
    return WEFT_OK;
}

/* Before anything else, so that a refusal finds the struct in order. 0: there is none. */
WEFT_INLINE int weft_graph_clear(weft_graph *g) {
    if (!g) return 0;
    weft_graph_refuse(g, WEFT_OK, NULL, 0, 0);
    g->struct_size = sizeof *g;
    g->bytes = 0;
    g->detail.peer = WEFT_NO_RANK;
    g->detail.round = 0;
    g->detail.phase = NULL;
    return 1;
}

/* Degrees in offset become beginnings; weft_graph_put moves them on, and weft_graph_rewind back. */
WEFT_INLINE uint32_t weft_graph_begins(uint32_t *offset, uint32_t workers) {
    uint32_t i, sum = 0;
    for (i = 0; i < workers; i++) {
        uint32_t degree = offset[i];
        offset[i] = sum;
        sum += degree;
    }
    offset[workers] = sum;
    return sum;
}

WEFT_INLINE void weft_graph_put(const weft_graph_arrays *a, uint32_t u, uint32_t v) {
    a->neighbour[a->offset[u]++] = v;
    a->neighbour[a->offset[v]++] = u;
}

WEFT_INLINE void weft_graph_rewind(uint32_t *offset, uint32_t workers) {
    uint32_t i;
    for (i = workers; i > 0; i--) offset[i] = offset[i - 1];
    offset[0] = 0;
}

/* Heap sort: in place, and never slow. */
WEFT_INLINE void weft_graph_sort(uint32_t *v, uint32_t count) {
    uint32_t root = count / 2, end = count;
    while (end > 1) {
        uint32_t value, at, child;
        if (root > 0) {
            value = v[--root];
        } else {
            value = v[--end];
            v[end] = v[0];
        }
        at = root;
        while ((child = 2 * at + 1) < end) {
            if (child + 1 < end && v[child + 1] > v[child]) child++;
            if (v[child] <= value) break;
            v[at] = v[child];
            at = child;
        }
        v[at] = value;
    }
}

/* The arrays hold all edges, rows not yet sorted: sorts them, and makes the graph. WEFT_AGAIN: it is not connected;
 * then only upper, as labels of the parts, is not as it should be. */
WEFT_INLINE weft_status weft_graph_finish(weft_graph *g, uint32_t workers, const weft_graph_arrays *a) {
    uint32_t i, k;
    for (i = 0; i < workers; i++) {
        uint32_t *row = a->neighbour + a->offset[i], degree = a->offset[i + 1] - a->offset[i];
        for (k = 1; k < degree && row[k - 1] < row[k]; k++) continue;
        if (k < degree) weft_graph_sort(row, degree);
        if (i == 0 || degree < g->least_degree) g->least_degree = degree;
        if (i == 0 || degree > g->most_degree) g->most_degree = degree;
    }
    g->workers = workers;
    g->edges = a->offset[workers] / 2;
    g->offset = a->offset;
    g->neighbour = a->neighbour;
    if (weft_graph_parts(g, NULL, a->upper) != 1) return WEFT_AGAIN;
    for (i = 0, a->upper[0] = 0; i < workers; i++) {
        const uint32_t *row = a->neighbour + a->offset[i];
        uint32_t degree = a->offset[i + 1] - a->offset[i];
        for (k = degree; k > 0 && row[k - 1] > i; k--) continue;
        a->upper[i + 1] = a->upper[i] + (degree - k);
    }
    g->upper = a->upper;
    return WEFT_OK;
}

/* The generator: the finaliser of splitmix64 over key + (counter + 1) * 2^64 / golden ratio. */
WEFT_INLINE uint64_t weft_graph_draw(uint64_t key, uint64_t counter) {
    uint64_t z = key + (counter + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* draw >> 11 is below this with the given probability. */
WEFT_INLINE uint64_t weft_graph_threshold(double probability) {
    return (uint64_t)(probability * 9007199254740992.0);
}

/* ---- Graphs that have a rule for "is v, above u, a neighbour of u?" ---- */

typedef enum weft_graph_kind {
    WEFT_GRAPH_IS_CIRCLE, /* of distances 1, 2, 4, ... 2^(tries / 2 - 1): ring, exponential */
    WEFT_GRAPH_IS_CHAIN,
    WEFT_GRAPH_IS_STAR,
    WEFT_GRAPH_IS_TORUS,
    WEFT_GRAPH_IS_HYPERCUBE,
    WEFT_GRAPH_IS_RANDOM,     /* Erdos-Renyi; complete, where the threshold is 2^53 */
    WEFT_GRAPH_IS_SMALL_WORLD /* not by candidates: see weft_graph_rewire */
} weft_graph_kind;

typedef struct weft_graph_plan {
    weft_graph_kind kind;
    uint32_t workers;
    uint32_t columns; /* torus */
    uint32_t tries;   /* candidates a worker, where their number is the same for all; small world: half the degree */
    uint64_t key, threshold; /* random */
    uint64_t most;           /* edges that there is room for */
} weft_graph_plan;

WEFT_INLINE uint32_t weft_graph_tries(const weft_graph_plan *p, uint32_t u) {
    if (p->kind == WEFT_GRAPH_IS_RANDOM) return p->workers - 1 - u;
    if (p->kind == WEFT_GRAPH_IS_STAR) return u == 0 ? p->workers - 1 : 0;
    return p->tries;
}

/* i + by or, if back, i - by, modulo n; by < n. */
WEFT_INLINE uint32_t weft_graph_around(uint32_t i, uint32_t by, uint32_t n, int back) {
    return (uint32_t)(((uint64_t)i + (back ? n - by : by)) % n);
}

/* The k-th candidate of u; only those above u count. */
WEFT_INLINE uint32_t weft_graph_candidate(const weft_graph_plan *p, uint32_t u, uint32_t k) {
    uint32_t n = p->workers, c = p->columns, column;
    switch (p->kind) {
    case WEFT_GRAPH_IS_CIRCLE: return weft_graph_around(u, 1u << k / 2, n, k % 2);
    case WEFT_GRAPH_IS_CHAIN: return u + 1 < n ? u + 1 : u;
    case WEFT_GRAPH_IS_STAR: return k + 1;
    case WEFT_GRAPH_IS_TORUS:
        if (k < 2) return weft_graph_around(u, c % n, n, k == 1);
        column = u % c;
        return u - column + weft_graph_around(column, 1 % c, c, k == 3);
    case WEFT_GRAPH_IS_HYPERCUBE: return u ^ 1u << k;
    case WEFT_GRAPH_IS_RANDOM:
    case WEFT_GRAPH_IS_SMALL_WORLD: break;
    }
    k += u + 1;
    return weft_graph_draw(p->key, (uint64_t)u * n + k) >> 11 < p->threshold ? k : u;
}

/* Counts (degrees in offset), or fills in. 0: too many edges, or a worker without any: no use to go on. */
WEFT_INLINE int weft_graph_pass(const weft_graph_plan *p, const weft_graph_arrays *a, int fill) {
    uint64_t edges = 0;
    uint32_t u, k, j;
    for (u = 0; u < p->workers; u++) {
        uint32_t tries = weft_graph_tries(p, u);
        for (k = 0; k < tries; k++) {
            uint32_t v = weft_graph_candidate(p, u, k);
            if (v <= u) continue;
            j = k;
            if (p->kind == WEFT_GRAPH_IS_CIRCLE || p->kind == WEFT_GRAPH_IS_TORUS)
                for (j = 0; j < k && weft_graph_candidate(p, u, j) != v; j++) continue;
            if (j < k) continue; /* twice the same */
            if (fill) {
                weft_graph_put(a, u, v);
            } else {
                if (++edges > p->most) return 0;
                a->offset[u]++;
                a->offset[v]++;
            }
        }
        if (!fill && a->offset[u] == 0 && p->workers > 1) return 0;
    }
    return 1;
}

WEFT_INLINE weft_status weft_graph_build(weft_graph *g, const weft_graph_plan *p, const weft_graph_arrays *a) {
    uint32_t i;
    for (i = 0; i <= p->workers; i++) a->offset[i] = 0;
    if (!weft_graph_pass(p, a, 0)) return WEFT_AGAIN;
    weft_graph_begins(a->offset, p->workers);
    weft_graph_pass(p, a, 1);
    weft_graph_rewind(a->offset, p->workers);
    return weft_graph_finish(g, p->workers, a);
}

WEFT_INLINE weft_status weft_graph_regular(weft_graph *g, weft_graph_plan *p, uint64_t edges, void *memory,
                                           size_t bytes) {
    weft_graph_arrays a;
    weft_status s = weft_graph_begin(g, p->workers, edges, memory, bytes, &a);
    p->most = edges;
    return s == WEFT_OK && a.offset ? weft_graph_build(g, p, &a) : s;
}

/* Edges of a ring. */
WEFT_INLINE uint64_t weft_graph_circle(uint32_t workers) {
    return workers > 2 ? workers : workers - (workers > 0);
}

WEFT_INLINE weft_graph_plan weft_graph_plan_of(weft_graph_kind kind, uint32_t workers, uint32_t tries) {
    weft_graph_plan p;
    p.kind = kind;
    p.workers = workers;
    p.columns = 1;
    p.tries = tries;
    p.key = p.threshold = p.most = 0;
    return p;
}

WEFT_INLINE weft_status weft_graph_ring(weft_graph *graph, uint32_t workers, void *memory, size_t bytes) {
    weft_graph_plan p = weft_graph_plan_of(WEFT_GRAPH_IS_CIRCLE, workers, workers > 1 ? 2 : 0);
    if (!weft_graph_clear(graph)) return WEFT_ERR_ARGUMENT;
    return weft_graph_regular(graph, &p, weft_graph_circle(workers), memory, bytes);
}

WEFT_INLINE weft_status weft_graph_chain(weft_graph *graph, uint32_t workers, void *memory, size_t bytes) {
    weft_graph_plan p = weft_graph_plan_of(WEFT_GRAPH_IS_CHAIN, workers, 1);
    if (!weft_graph_clear(graph)) return WEFT_ERR_ARGUMENT;
    return weft_graph_regular(graph, &p, workers - (workers > 0), memory, bytes);
}

WEFT_INLINE weft_status weft_graph_star(weft_graph *graph, uint32_t workers, void *memory, size_t bytes) {
    weft_graph_plan p = weft_graph_plan_of(WEFT_GRAPH_IS_STAR, workers, 0);
    if (!weft_graph_clear(graph)) return WEFT_ERR_ARGUMENT;
    return weft_graph_regular(graph, &p, workers - (workers > 0), memory, bytes);
}

WEFT_INLINE weft_status weft_graph_complete(weft_graph *graph, uint32_t workers, void *memory, size_t bytes) {
    weft_graph_plan p = weft_graph_plan_of(WEFT_GRAPH_IS_RANDOM, workers, 0);
    uint64_t n = workers;
    if (!weft_graph_clear(graph)) return WEFT_ERR_ARGUMENT;
    p.threshold = weft_graph_threshold(1);
    return weft_graph_regular(graph, &p, n ? n * (n - 1) / 2 : 0, memory, bytes);
}

WEFT_INLINE weft_status weft_graph_torus(weft_graph *graph, uint32_t rows, uint32_t columns, void *memory,
                                         size_t bytes) {
    uint64_t workers = (uint64_t)rows * columns;
    weft_graph_plan p;
    if (!weft_graph_clear(graph)) return WEFT_ERR_ARGUMENT;
    if (workers == 0) return weft_graph_refuse(graph, WEFT_ERR_ARGUMENT, WEFT_GRAPH_TEXT("rows, columns"), 1, workers);
    if (workers >= WEFT_NO_RANK)
        return weft_graph_refuse(graph, WEFT_ERR_OVERFLOW, WEFT_GRAPH_TEXT("rows * columns"), WEFT_NO_RANK - 1u,
                                 workers);
    p = weft_graph_plan_of(WEFT_GRAPH_IS_TORUS, (uint32_t)workers, 4);
    p.columns = columns;
    return weft_graph_regular(graph, &p, rows * weft_graph_circle(columns) + columns * weft_graph_circle(rows), memory,
                              bytes);
}

WEFT_INLINE weft_status weft_graph_hypercube(weft_graph *graph, uint32_t dimensions, void *memory, size_t bytes) {
    weft_graph_plan p;
    if (!weft_graph_clear(graph)) return WEFT_ERR_ARGUMENT;
    if (dimensions > 31)
        return weft_graph_refuse(graph, WEFT_ERR_OVERFLOW, WEFT_GRAPH_TEXT("dimensions"), 31, dimensions);
    p = weft_graph_plan_of(WEFT_GRAPH_IS_HYPERCUBE, 1u << dimensions, dimensions);
    return weft_graph_regular(graph, &p, ((uint64_t)dimensions << dimensions) / 2, memory, bytes);
}

/* The least k with 2^k >= workers. */
WEFT_INLINE uint32_t weft_graph_log2(uint32_t workers) {
    uint32_t k = 0;
    while ((uint64_t)1 << k < workers) k++;
    return k;
}

WEFT_INLINE weft_status weft_graph_exponential(weft_graph *graph, uint32_t workers, void *memory, size_t bytes) {
    weft_graph_plan p = weft_graph_plan_of(WEFT_GRAPH_IS_CIRCLE, workers, 2 * weft_graph_log2(workers));
    uint32_t k, j, degree = 0;
    if (!weft_graph_clear(graph)) return WEFT_ERR_ARGUMENT;
    for (k = 0; k < p.tries; k++) { /* the neighbours of worker 0 */
        for (j = 0; j < k && weft_graph_candidate(&p, 0, j) != weft_graph_candidate(&p, 0, k); j++) continue;
        degree += j == k;
    }
    return weft_graph_regular(graph, &p, (uint64_t)workers * degree / 2, memory, bytes);
}

/* Not below the square root. */
WEFT_INLINE uint64_t weft_graph_root_above(uint64_t v) {
    uint64_t r = 1;
    int i;
    if (v >> 62) return (uint64_t)1 << 32;
    while (r * r < v) r *= 2;
    for (i = 0; i < 6; i++) r = (r + v / r) / 2 + 1; /* Newton from above, always rounded up */
    return r;
}

/* A probability that is one, or a refusal. */
WEFT_INLINE weft_status weft_graph_chance(weft_graph *g, double p, int zero, const char *field) {
    uint64_t one = 0x3FF0000000000000u, bits = 0;
    unsigned char *to = (unsigned char *)&bits;
    const unsigned char *from = (const unsigned char *)&p;
    size_t i;
    if (p <= 1 && (zero ? p >= 0 : p > 0)) return WEFT_OK;
    for (i = 0; i < sizeof bits; i++) to[i] = from[i];
    return weft_graph_refuse(g, WEFT_ERR_ARGUMENT, field, one, bits);
}

/* Small world: `to` holds p->tries far ends of each worker. Every edge stands at one of its ends, so two lists tell. */
WEFT_INLINE int weft_graph_knows(const weft_graph_plan *p, const uint32_t *to, uint32_t i, uint32_t j) {
    uint32_t k;
    for (k = 0; k < p->tries; k++)
        if (to[(size_t)i * p->tries + k] == j || to[(size_t)j * p->tries + k] == i) return 1;
    return 0;
}

WEFT_INLINE void weft_graph_rewire(const weft_graph_plan *p, uint32_t *to) {
    uint32_t i, k, t, j;
    for (i = 0; i < p->workers; i++)
        for (k = 0; k < p->tries; k++) to[(size_t)i * p->tries + k] = weft_graph_around(i, k + 1, p->workers, 0);
    for (k = 0; k < p->tries; k++)
        for (i = 0; i < p->workers; i++) {
            uint64_t mine = weft_graph_draw(p->key, (uint64_t)k * p->workers + i);
            if (mine >> 11 >= p->threshold) continue;
            for (t = 0; t < 1024; t++) { /* if all fail, everybody is a neighbour, or nearly: the edge stays */
                j = (uint32_t)((weft_graph_draw(mine, t) >> 32) * p->workers >> 32);
                if (j != i && !weft_graph_knows(p, to, i, j)) {
                    to[(size_t)i * p->tries + k] = j;
                    break;
                }
            }
        }
}

/* The far ends go into the second half of the array, and from there, once the degrees are known, to the beginnings of
 * the rows, which never lie behind where they are read. */
WEFT_INLINE weft_status weft_graph_small(weft_graph *g, const weft_graph_plan *p, const weft_graph_arrays *a) {
    uint32_t n = p->workers, half = p->tries, i, k, *to = a->neighbour + (size_t)p->most;
    weft_graph_rewire(p, to);
    for (i = 0; i < n; i++) a->offset[i] = half;
    for (i = 0; i < p->most; i++) a->offset[to[i]]++;
    weft_graph_begins(a->offset, n);
    for (i = 0; i < n; i++) {
        for (k = 0; k < half; k++) a->neighbour[a->offset[i] + k] = to[(size_t)i * half + k];
        a->upper[i] = a->offset[i] + half;
    }
    for (i = 0; i < n; i++)
        for (k = 0; k < half; k++) a->neighbour[a->upper[a->neighbour[a->offset[i] + k]]++] = i;
    return weft_graph_finish(g, n, a);
}

/* Draws until the graph is connected. */
WEFT_INLINE weft_status weft_graph_drawn(weft_graph *g, weft_graph_plan *p, const weft_graph_arrays *a, uint64_t seed,
                                         const char *field) {
    uint32_t draw;
    for (draw = 0; draw < WEFT_GRAPH_DRAWS; draw++) {
        p->key = weft_graph_draw(seed, draw);
        if ((p->kind == WEFT_GRAPH_IS_RANDOM ? weft_graph_build(g, p, a) : weft_graph_small(g, p, a)) == WEFT_OK)
            return WEFT_OK;
    }
    return weft_graph_refuse(g, WEFT_ERR_ARGUMENT, field, 1, draw);
}

WEFT_INLINE weft_status weft_graph_erdos_renyi(weft_graph *graph, uint32_t workers, double probability, uint64_t seed,
                                               void *memory, size_t bytes) {
    weft_graph_plan p = weft_graph_plan_of(WEFT_GRAPH_IS_RANDOM, workers, 0);
    uint64_t pairs = workers ? (uint64_t)workers * (workers - 1) / 2 : 0, mean;
    weft_graph_arrays a;
    weft_status s;
    if (!weft_graph_clear(graph)) return WEFT_ERR_ARGUMENT;
    s = weft_graph_chance(graph, probability, 0, WEFT_GRAPH_TEXT("probability"));
    if (s != WEFT_OK) return s;
    p.threshold = weft_graph_threshold(probability);
    mean = (uint64_t)((double)pairs * probability) + 1;
    p.most = mean + 10 * weft_graph_root_above(mean) + 32; /* Chernoff: exceeded with a chance below e^-45 */
    if (p.most > pairs) p.most = pairs;
    s = weft_graph_begin(graph, workers, p.most, memory, bytes, &a);
    if (s != WEFT_OK || !a.offset) return s;
    return weft_graph_drawn(graph, &p, &a, seed, WEFT_GRAPH_TEXT("probability (no connected draw)"));
}

WEFT_INLINE weft_status weft_graph_small_world(weft_graph *graph, uint32_t workers, uint32_t degree, double rewire,
                                               uint64_t seed, void *memory, size_t bytes) {
    weft_graph_plan p = weft_graph_plan_of(WEFT_GRAPH_IS_SMALL_WORLD, workers, degree / 2);
    weft_graph_arrays a;
    weft_status s;
    if (!weft_graph_clear(graph)) return WEFT_ERR_ARGUMENT;
    if (degree < 2 || degree % 2 || degree >= workers)
        return weft_graph_refuse(graph, WEFT_ERR_ARGUMENT, WEFT_GRAPH_TEXT("degree (even, below workers)"),
                                 degree < 2 || workers < 3 ? 2
                                 : degree < workers        ? degree - 1
                                                           : (workers - 1) / 2 * 2,
                                 degree);
    s = weft_graph_chance(graph, rewire, 1, WEFT_GRAPH_TEXT("rewire"));
    if (s != WEFT_OK) return s;
    p.threshold = weft_graph_threshold(rewire);
    p.most = (uint64_t)workers * p.tries;
    s = weft_graph_begin(graph, workers, p.most, memory, bytes, &a);
    if (s != WEFT_OK || !a.offset) return s;
    return weft_graph_drawn(graph, &p, &a, seed, WEFT_GRAPH_TEXT("rewire (no connected draw)"));
}

/* An edge stands twice in the list: where? */
WEFT_INLINE weft_status weft_graph_twice(weft_graph *g, const weft_edge *edge, size_t count, uint32_t a, uint32_t b) {
    size_t i, first = count;
    for (i = 0; i < count; i++) {
        if (!((edge[i].a == a && edge[i].b == b) || (edge[i].a == b && edge[i].b == a))) continue;
        if (first < count) break;
        first = i;
    }
    g->detail.peer = a < b ? a : b;
    return weft_graph_refuse(g, WEFT_ERR_ARGUMENT, WEFT_GRAPH_TEXT("edge (listed twice)"), first, i);
}

WEFT_INLINE weft_status weft_graph_from_edges(weft_graph *graph, uint32_t workers, const weft_edge *edge, size_t count,
                                              void *memory, size_t bytes) {
    weft_graph_arrays a;
    weft_status s;
    size_t i;
    uint32_t u, k, reached;
    if (!weft_graph_clear(graph)) return WEFT_ERR_ARGUMENT;
    s = weft_graph_begin(graph, workers, count, memory, bytes, &a);
    if (s != WEFT_OK) return s;
    if (count && !edge) return weft_graph_refuse(graph, WEFT_ERR_ARGUMENT, WEFT_GRAPH_TEXT("edge"), 1, 0);
    for (i = 0; i < count; i++) {
        if (edge[i].a >= workers || edge[i].b >= workers) {
            graph->detail.peer = edge[i].a >= workers ? edge[i].b : edge[i].a;
            return weft_graph_refuse(graph, WEFT_ERR_ARGUMENT, WEFT_GRAPH_TEXT("edge (no such worker)"), workers - 1,
                                     edge[i].a >= workers ? edge[i].a : edge[i].b);
        }
        if (edge[i].a == edge[i].b)
            return weft_graph_refuse(graph, WEFT_ERR_ARGUMENT, WEFT_GRAPH_TEXT("edge (from a worker to itself)"),
                                     edge[i].a, edge[i].b);
    }
    if (!a.offset) return WEFT_OK;
    for (u = 0; u <= workers; u++) a.offset[u] = 0;
    for (i = 0; i < count; i++) {
        a.offset[edge[i].a]++;
        a.offset[edge[i].b]++;
    }
    weft_graph_begins(a.offset, workers);
    for (i = 0; i < count; i++) weft_graph_put(&a, edge[i].a, edge[i].b);
    weft_graph_rewind(a.offset, workers);
    s = weft_graph_finish(graph, workers, &a);
    for (u = 0; u < workers; u++)
        for (k = a.offset[u] + 1; k < a.offset[u + 1]; k++)
            if (a.neighbour[k - 1] == a.neighbour[k]) return weft_graph_twice(graph, edge, count, u, a.neighbour[k]);
    if (s == WEFT_OK) return s;
    for (u = reached = 0; u < workers; u++) {
        reached += a.upper[u] == 0;
        if (a.upper[u] != 0 && graph->detail.peer == WEFT_NO_RANK) graph->detail.peer = u;
    }
    return weft_graph_refuse(graph, WEFT_ERR_ARGUMENT, WEFT_GRAPH_TEXT("edges (not connected)"), workers, reached);
}

WEFT_INLINE uint32_t weft_graph_one_peer(uint32_t workers, uint64_t round, uint32_t worker) {
    uint32_t phases = weft_graph_log2(workers), k, z = 0, length, at, i;
    uint64_t turn;
    if (worker >= workers) return WEFT_NO_RANK;
    if (phases == 0) return worker;
    k = (uint32_t)(round % phases);
    if ((workers & (workers - 1)) == 0) return worker ^ 1u << k;
    /* Steps of 2^k part the workers into 2^z circles. `at` is the worker's place in its circle: how many steps from
     * its lowest worker. Steps can be halved modulo the length of a circle, since that is odd where 2^z < 2^k. */
    while (z < k && workers % (2u << z) == 0) z++;
    length = workers >> z;
    at = worker >> z;
    for (i = z; i < k; i++) at = at % 2 ? (uint32_t)(((uint64_t)at + length) / 2) : at / 2;
    /* Every other place is paired with the next one, beginning one place further each cycle. */
    turn = round / phases % length;
    at = (uint32_t)(((uint64_t)at + length - turn) % length);
    if (at % 2 == 0 && at + 1 == length) return worker;
    return weft_graph_around(worker, 1u << k, workers, at % 2);
}

/* ---- How questions are answered ---- */

WEFT_INLINE uint32_t weft_graph_degree(const weft_graph *graph, uint32_t i) {
    return i < graph->workers ? graph->offset[i + 1] - graph->offset[i] : 0;
}

WEFT_INLINE const uint32_t *weft_graph_neighbours(const weft_graph *graph, uint32_t i, uint32_t *count) {
    *count = weft_graph_degree(graph, i);
    return *count ? graph->neighbour + graph->offset[i] : graph->neighbour;
}

WEFT_INLINE uint32_t weft_graph_slot(const weft_graph *graph, uint32_t i, uint32_t j) {
    uint32_t count, low = 0, high;
    const uint32_t *row = weft_graph_neighbours(graph, i, &count);
    high = count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (row[mid] < j)
            low = mid + 1;
        else
            high = mid;
    }
    return low < count && row[low] == j ? low : WEFT_NO_EDGE;
}

WEFT_INLINE int weft_graph_has_edge(const weft_graph *graph, uint32_t i, uint32_t j) {
    return weft_graph_slot(graph, i, j) != WEFT_NO_EDGE;
}

WEFT_INLINE uint32_t weft_graph_edge_index(const weft_graph *graph, uint32_t i, uint32_t j) {
    uint32_t low = i < j ? i : j, slot = weft_graph_slot(graph, low, i < j ? j : i);
    if (slot == WEFT_NO_EDGE) return WEFT_NO_EDGE;
    /* the row ends with the edges that begin here */
    return graph->upper[low + 1] - (graph->offset[low + 1] - graph->offset[low] - slot);
}

WEFT_INLINE weft_edge weft_graph_edge(const weft_graph *graph, uint32_t index) {
    weft_edge e;
    uint32_t low = 0, high = graph->workers;
    e.a = e.b = WEFT_NO_RANK;
    if (index >= graph->edges) return e;
    while (high - low > 1) { /* the last worker whose edges begin at or before this one */
        uint32_t mid = low + (high - low) / 2;
        if (graph->upper[mid] <= index)
            low = mid;
        else
            high = mid;
    }
    e.a = low;
    e.b = graph->neighbour[graph->offset[low + 1] - (graph->upper[low + 1] - index)];
    return e;
}

WEFT_INLINE uint32_t weft_graph_degree_among(const weft_graph *graph, const unsigned char *present, uint32_t i) {
    uint32_t count, k, degree = 0;
    const uint32_t *row = weft_graph_neighbours(graph, i, &count);
    if (!present || !count) return count;
    for (k = 0; present[i] && k < count; k++) degree += present[row[k]] != 0;
    return degree;
}

/* Labels lead downwards, to the lowest of what has been joined so far; the way is made shorter. */
WEFT_INLINE uint32_t weft_graph_lowest(uint32_t *label, uint32_t i) {
    while (label[i] != i) {
        label[i] = label[label[i]];
        i = label[i];
    }
    return i;
}

WEFT_INLINE uint32_t weft_graph_parts(const weft_graph *graph, const unsigned char *present, uint32_t *label) {
    uint32_t i, k, parts = 0;
    for (i = 0; i < graph->workers; i++) label[i] = i;
    for (i = 0; i < graph->workers; i++)
        for (k = graph->offset[i]; k < graph->offset[i + 1] && graph->neighbour[k] < i; k++) {
            uint32_t a = i, b = graph->neighbour[k];
            if (present && (!present[a] || !present[b])) continue;
            a = weft_graph_lowest(label, a);
            b = weft_graph_lowest(label, b);
            label[a > b ? a : b] = a < b ? a : b;
        }
    for (i = 0; i < graph->workers; i++) {
        if (present && !present[i]) {
            label[i] = WEFT_NO_RANK;
            continue;
        }
        parts += label[i] == i;
        label[i] = label[label[i]]; /* lower ones are done */
    }
    return parts;
}

WEFT_INLINE int weft_graph_connected(const weft_graph *graph, const unsigned char *present, uint32_t *label) {
    return weft_graph_parts(graph, present, label) <= 1;
}

/* ---- How weights are formed ---- */

/* A sum that keeps what its roundings drop. */
typedef struct weft_graph_sum {
    double sum, dropped;
} weft_graph_sum;

WEFT_INLINE void weft_graph_sum_add(weft_graph_sum *s, double v) {
    double sum = s->sum + v, part = sum - s->sum;
    s->dropped += (s->sum - (sum - part)) + (v - part);
    s->sum = sum;
}

/* The largest share that worker i, present, can give to a neighbour; an edge has the smaller of its ends' shares. */
WEFT_INLINE double weft_graph_share(const weft_graph *graph, const weft_mixing *mixing, uint32_t i) {
    if (mixing && mixing->rule == WEFT_UNIFORM) return 1.0 / (1.0 + graph->most_degree);
    return 1.0 / (1.0 + weft_graph_degree_among(graph, mixing ? mixing->present : NULL, i));
}

WEFT_INLINE double weft_graph_row(const weft_graph *graph, const weft_mixing *mixing, uint32_t i, double *weight) {
    const unsigned char *present = mixing ? mixing->present : NULL;
    int own = mixing && mixing->rule == WEFT_OWN_WEIGHTS, here;
    uint32_t count, k;
    const uint32_t *row = weft_graph_neighbours(graph, i, &count);
    weft_graph_sum sum = {0, 0};
    double share;
    if (i >= graph->workers) return 0;
    here = !present || present[i];
    share = own ? 0 : weft_graph_share(graph, mixing, i);
    for (k = 0; k < count; k++) {
        double w = 0, other;
        if (here && (!present || present[row[k]])) {
            if (own) {
                w = mixing->weight(mixing->ctx, i, row[k]);
            } else {
                other = weft_graph_share(graph, mixing, row[k]);
                w = other < share ? other : share;
            }
        }
        weft_graph_sum_add(&sum, w);
        if (weight) weight[k] = w;
    }
    if (own && here) return mixing->weight(mixing->ctx, i, i);
    return (1.0 - sum.sum) - sum.dropped;
}

WEFT_INLINE double weft_graph_weight(const weft_graph *graph, const weft_mixing *mixing, uint32_t i, uint32_t j) {
    const unsigned char *present = mixing ? mixing->present : NULL;
    double a, b;
    if (i == j) return weft_graph_row(graph, mixing, i, NULL);
    if (!weft_graph_has_edge(graph, i, j) || (present && (!present[i] || !present[j]))) return 0;
    if (mixing && mixing->rule == WEFT_OWN_WEIGHTS) return mixing->weight(mixing->ctx, i, j);
    a = weft_graph_share(graph, mixing, i);
    b = weft_graph_share(graph, mixing, j);
    return a < b ? a : b;
}

WEFT_INLINE uint64_t weft_graph_rounds(double gap, double factor) {
    double power[64], left = 1.0;
    uint64_t rounds = 0;
    int k, n;
    if (!(factor < 1)) return 0;
    if (!(gap > 0) || !(factor > 0)) return UINT64_MAX;
    power[0] = 1.0 - gap; /* its 2^k-th powers, up to the first that is small enough */
    for (n = 0; power[n] > factor; n++) {
        if (n == 63) return UINT64_MAX;
        power[n + 1] = power[n] * power[n];
    }
    for (k = n; k >= 0; k--) /* the most rounds that are not yet enough, and one */
        if (left * power[k] > factor) {
            left *= power[k];
            rounds += (uint64_t)1 << k;
        }
    return rounds + 1;
}

#endif /* WEFT_GRAPH_API */

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

/* ---- src/weft/codec.h: API ------------------------------------------------------------------- */
#ifndef WEFT_CODEC_API
#define WEFT_CODEC_API

/* ---- Codecs ----
 *
 * A codec makes a message of a tensor t, and of the message a tensor C(t) that stands for it. Codecs work tensor by
 * tensor, never across two.
 *
 *   kind      C(t), element by element                                bytes for n elements of f32
 *   IDENTITY  t                                                       4 n
 *   BF16      t rounded to nearest even; beyond the largest: that     2 n
 *   F16       t rounded to nearest even; beyond the largest: that     2 n
 *   Q8        step * floor(t / step + u), step = largest |t| / 127    n + 4 for each 256
 *   Q4        the same with 7 instead of 127                          n / 2 + 4 for each 256
 *   QSGD      sign(t) |t|_2 / s * (floor(r) + [u < r - floor(r)]),    n (bits + 1) / 8 + 4
 *             r = s |t| / |t|_2, s = 2^bits - 1; norm of the tensor
 *   TOPK      t where |t| is among the k largest of the tensor,       8 k
 *             else 0; k = max(1, trunc(n (1 - drop))); of equal
 *             magnitudes those with the lower index
 *   SIGN      sign(t) * mean |t| of the tensor; 0 where t is 0        n / 8 + 8, twice n / 8 where there are zeros
 *
 * u is uniform in [0, 1). Q8 and Q4 have one step for each 256 elements; QSGD with one norm for the whole tensor is
 * the form of the published code (D. Alistarh et al., QSGD, arXiv 1610.02132, section 3.1), and its error grows with
 * the tensor: prefer Q8. f64 tensors send f64 values in IDENTITY and TOPK, and f64 scales in QSGD and SIGN; with the
 * other codecs they are rounded to f32 first. bf16 and f16 tensors are taken as the f32 that they stand for. A tensor
 * of zeros comes out as zeros, with every codec.
 *
 * Q8, Q4 and QSGD are unbiased: the expectation over u of C(t) is t, but for the rounding of f32. (QSGD with `biased`
 * multiplies C(t) by 1 / (1 + min(n / s^2, sqrt(n) / s)), which makes it a contraction. Q8 and Q4 saturate where
 * |t| is within 1 % of the largest float; QSGD of f64 sends zeros where the squares of all elements underflow.)
 * How far C(t) is from t, E|C(t) - t|^2 <= c |t|^2:
 *   Q8, Q4    c = (sqrt(1 + 255 / s^2) - 1) / 2: 0.0039 and 0.746 (s = 127 and 7); derived here: with m = |t|_inf, the
 *             largest itself is exact, the others at fraction f of a step err by f (1 - f) against f^2, worst over f.
 *             Where a step would be below 2^-100, it is 2^-100 and c does not hold
 *   QSGD      c = min(n / s^2, sqrt(n) / s) (op. cit., theorem 3.2); `biased`: c / (1 + c)
 *   TOPK      c = 1 - k / n (S. Stich et al., Sparsified SGD with memory, arXiv 1809.07599)
 *   SIGN      c = 1 - |t|_1^2 / (n |t|_2^2) (S. Karimireddy et al., Error feedback fixes SignSGD, arXiv 1901.09847)
 *
 * ---- What is lost, and what is not ----
 *
 * An encoder works in one of three forms, on data z and what it keeps from call to call (one number an element: f64
 * for f64 tensors, f32 for all others; zeros at the start, in the host's memory):
 *   PLAIN       codes t = z and keeps nothing
 *   FEEDBACK    codes t = z + kept, then kept = t - C(t): what is not sent now is sent later
 *   DIFFERENCE  codes t = z - kept, then kept = kept + C(t): kept is what receivers know of z, if they add up what they
 *               are sent (weight 1), and has the same bits as theirs (A. Koloskova et al., CHOCO, arXiv 1902.00340)
 *
 * ---- Chunks, and random numbers ----
 *
 * A tensor may be coded in chunks: ranges that begin at a multiple of WEFT_CODEC_BLOCK elements and, but for the last
 * one, are a multiple long. A chunk is a message of its own, decoded on its own. Chunks can be coded in any order, by
 * any number of threads, and C(t) and kept do not depend on how a tensor is cut: u is a function of a key and the
 * element's index. The key is one of (seed, round, stream, tensor); the same run draws the same numbers.
 *
 * ---- What is not finite ----
 *
 * An element of z that is NaN or infinite, or becomes so on the way to t, is counted and left out: FEEDBACK codes what
 * was kept for it, the other forms code 0. Whether the round goes on is the host's choice. Decoders refuse messages
 * in which C(t) is not finite everywhere; what rounding to f16 or adding then makes of it they do not look at.
 *
 * ---- Use ----
 *
 *   weft_codec c = weft_codec_q8();
 *   const weft_codec_kernels *k = weft_codec_kernels_select(WEFT_ISA_AUTO, 0);
 *   weft_codec_job j;                               // one tensor, in every round
 *   memset(&j, 0, sizeof j);
 *   j.codec = &c; j.form = WEFT_CODEC_FEEDBACK; j.dtype = WEFT_F32; j.data = gradient; j.count = n;
 *   j.kept = kept;                                  // zeros at first: n of weft_codec_value_bytes each
 *   j.key = weft_codec_key(seed, round, my_rank, tensor);
 *   capacity = weft_codec_bytes(&c, j.dtype, n, n);  // the most that it takes
 *   s = weft_codec_encode_tensor(k, &j, message, capacity, &bytes, NULL, &detail);
 *   ...
 *   s = weft_codec_decode_add(k, &c, WEFT_F32, n, 0, n, message, bytes, weight, sum, &detail);
 *
 * For chunks there are weft_codec_measure and weft_codec_encode. The verbs stand where they are defined, with what they
 * promise. They need no object of an algorithm and no transport, but have internal linkage: they are there in the unit
 * that defines the X_IMPLEMENTATION of a header that carries this file. */
typedef enum weft_codec_kind {
    WEFT_CODEC_IDENTITY = 0,
    WEFT_CODEC_BF16 = 1,
    WEFT_CODEC_F16 = 2,
    WEFT_CODEC_Q8 = 3,
    WEFT_CODEC_Q4 = 4,
    WEFT_CODEC_QSGD = 5,
    WEFT_CODEC_TOPK = 6,
    WEFT_CODEC_SIGN = 7
} weft_codec_kind;

#define WEFT_CODEC_KINDS 8

/* Plain data; zeros are IDENTITY. Sender and receivers must agree on it. */
typedef struct weft_codec {
    weft_codec_kind kind;
    uint32_t bits; /* QSGD: 1 to 16, without the sign */
    int biased;    /* QSGD: 0 or 1 */
    double drop;   /* TOPK: the fraction that is not sent, at least 0 and less than 1 */
} weft_codec;

typedef enum weft_codec_form {
    WEFT_CODEC_PLAIN = 0,
    WEFT_CODEC_FEEDBACK = 1,
    WEFT_CODEC_DIFFERENCE = 2
} weft_codec_form;

#define WEFT_CODEC_BLOCK ((size_t)256)

/* One tensor on its way into messages. All pointers are aligned naturally: host memory, or a GPU's with its kernels. */
typedef struct weft_codec_job {
    const weft_codec *codec;
    weft_codec_form form;
    weft_dtype dtype;
    size_t count;          /* elements of the tensor */
    const void *data;      /* z: count elements of dtype; may be NULL where count is 0 */
    void *kept;            /* count elements of f32 (dtype F64: f64); NULL with PLAIN. Must not overlap data */
    uint64_t key;          /* weft_codec_key */
    const double *uniform; /* QSGD: u of every element, in [0, 1), instead of draws from the key; else NULL */
} weft_codec_job;

/* What a codec must know of a whole tensor before it codes a part. */
typedef struct weft_codec_scale {
    double step;        /* QSGD, SIGN: what a level stands for */
    double norm;        /* QSGD: |t|_2 */
    uint64_t least;     /* TOPK: the bits of the smallest magnitude sent, ... */
    size_t last;        /* ... and the highest index of it that is */
    uint64_t nonfinite; /* elements left out; encode finds as many. Not counted where nothing had to be measured */
} weft_codec_scale;

WEFT_INLINE weft_codec weft_codec_make(weft_codec_kind kind, uint32_t bits, int biased, double drop) {
    weft_codec c;
    c.kind = kind;
    c.bits = bits;
    c.biased = biased;
    c.drop = drop;
    return c;
}

WEFT_INLINE weft_codec weft_codec_identity(void) {
    return weft_codec_make(WEFT_CODEC_IDENTITY, 0, 0, 0.0);
}

WEFT_INLINE weft_codec weft_codec_bf16(void) {
    return weft_codec_make(WEFT_CODEC_BF16, 0, 0, 0.0);
}

WEFT_INLINE weft_codec weft_codec_f16(void) {
    return weft_codec_make(WEFT_CODEC_F16, 0, 0, 0.0);
}

WEFT_INLINE weft_codec weft_codec_q8(void) {
    return weft_codec_make(WEFT_CODEC_Q8, 0, 0, 0.0);
}

WEFT_INLINE weft_codec weft_codec_q4(void) {
    return weft_codec_make(WEFT_CODEC_Q4, 0, 0, 0.0);
}

WEFT_INLINE weft_codec weft_codec_qsgd(uint32_t bits, int biased) {
    return weft_codec_make(WEFT_CODEC_QSGD, bits, biased, 0.0);
}

WEFT_INLINE weft_codec weft_codec_topk(double drop) {
    return weft_codec_make(WEFT_CODEC_TOPK, 0, 0, drop);
}

WEFT_INLINE weft_codec weft_codec_sign(void) {
    return weft_codec_make(WEFT_CODEC_SIGN, 0, 0, 0.0);
}

/* WEFT_OK, or WEFT_ERR_ARGUMENT: detail names the field. Fields that the kind does not use must be 0. */
WEFT_INLINE weft_status weft_codec_check(const weft_codec *c, weft_detail *d) {
    const char *field = NULL;
    uint64_t expected = 0, got = 0;
    if ((unsigned)c->kind >= WEFT_CODEC_KINDS) {
        field = "codec.kind";
        expected = WEFT_CODEC_KINDS - 1;
        got = (uint64_t)(int64_t)c->kind;
    } else if (c->kind == WEFT_CODEC_QSGD ? c->bits < 1 || c->bits > 16 : c->bits != 0) {
        field = "codec.bits";
        expected = c->kind == WEFT_CODEC_QSGD ? 16 : 0;
        got = c->bits;
    } else if (c->biased != 0 && (c->biased != 1 || c->kind != WEFT_CODEC_QSGD)) {
        field = "codec.biased";
        expected = c->kind == WEFT_CODEC_QSGD;
        got = (uint64_t)(int64_t)c->biased;
    } else if (c->kind == WEFT_CODEC_TOPK ? !(c->drop >= 0 && c->drop < 1) : !(c->drop >= 0 && c->drop <= 0)) {
        field = "codec.drop";
        expected = c->kind == WEFT_CODEC_TOPK;
    }
    if (!field) return WEFT_OK;
    d->status = WEFT_ERR_ARGUMENT;
    d->field = field;
    d->expected = expected;
    d->got = got;
    return WEFT_ERR_ARGUMENT;
}

/* How many of n elements TOPK sends: max(1, trunc(n (1 - drop))) in double arithmetic (n = 100, drop = 0.9: 9); 0 of
 * none. Other codecs: n. */
WEFT_INLINE size_t weft_codec_sent(const weft_codec *c, size_t n) {
    double k;
    if (c->kind != WEFT_CODEC_TOPK || n == 0) return n;
    k = (double)n * (1.0 - c->drop);
    if (k < 1) return 1;
    return k < (double)n ? (size_t)k : n;
}

/* Bytes of the largest message for a chunk of `count` elements of a tensor that has n of this type; a message is no
 * shorter but for TOPK in chunks (encode tells) and SIGN without zeros. SIZE_MAX: the size does not fit (TOPK: 2^32
 * elements or more), or the codec or type is none. */
WEFT_INLINE size_t weft_codec_bytes(const weft_codec *c, weft_dtype dtype, size_t n, size_t count) {
    const size_t value = dtype == WEFT_F64 ? 8 : 4, blocks = count / WEFT_CODEC_BLOCK + (count % WEFT_CODEC_BLOCK != 0);
    const size_t most = SIZE_MAX / 32; /* no element takes more than 16 bytes and its part of what a block takes */
    if (count > most || n > most || count > n || !weft_dtype_bytes(dtype)) return SIZE_MAX;
    if (count == 0) return (unsigned)c->kind < WEFT_CODEC_KINDS ? 0 : SIZE_MAX;
    switch (c->kind) {
    case WEFT_CODEC_IDENTITY: return count * value;
    case WEFT_CODEC_BF16:
    case WEFT_CODEC_F16: return count * 2;
    case WEFT_CODEC_Q8: return count + 4 * blocks;
    case WEFT_CODEC_Q4: return count / 2 + count % 2 + 4 * blocks;
    case WEFT_CODEC_QSGD: return value + (count / 8) * (c->bits + 1) + ((count % 8) * (c->bits + 1) + 7) / 8;
    case WEFT_CODEC_TOPK: {
        const size_t k = weft_codec_sent(c, n);
        if (count >> 16 >> 16) return SIZE_MAX; /* an index has 32 bits */
        return (k < count ? k : count) * (4 + value);
    }
    case WEFT_CODEC_SIGN: return value + 4 + 2 * (count / 8 + (count % 8 != 0));
    }
    return SIZE_MAX;
}

/* The key of a tensor's random numbers. `stream` tells apart what is coded in one round: a rank, an edge. */
WEFT_INLINE uint64_t weft_codec_key(uint64_t seed, uint64_t round, uint64_t stream, uint64_t tensor) {
    uint64_t part[4], key = 0;
    int i;
    part[0] = seed;
    part[1] = round;
    part[2] = stream;
    part[3] = tensor;
    for (i = 0; i < 4; i++) { /* splitmix64 after each */
        key = (key ^ part[i]) + UINT64_C(0x9E3779B97F4A7C15);
        key = (key ^ key >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
        key = (key ^ key >> 27) * UINT64_C(0x94D049BB133111EB);
        key ^= key >> 31;
    }
    return key;
}

#endif /* WEFT_CODEC_API */

/* ---- src/saddle.h: API ----------------------------------------------------------------------- */

#ifndef SADDLE_API
#ifdef SADDLE_STATIC
#define SADDLE_API static WEFT_UNUSED
#elif defined __cplusplus
#define SADDLE_API extern "C"
#else
#define SADDLE_API extern
#endif
#endif

typedef struct saddle saddle;

typedef enum saddle_variant {
    SADDLE_Q = 0,     /* Q-SADDLe */
    SADDLE_N = 1,     /* N-SADDLe */
    SADDLE_QGM = 2,   /* Q-SADDLe with rho = 0 */
    SADDLE_NGC = 3,   /* N-SADDLe with rho = 0 */
    SADDLE_DPSGD = 4, /* without momentum */
    SADDLE_DSGDM = 5  /* local momentum; with nesterov: DSGDm-N */
} saddle_variant;

typedef enum saddle_momentum {
    SADDLE_MOMENTUM_DEFAULT = 0, /* as the variant has it */
    SADDLE_MOMENTUM_NONE = 1,
    SADDLE_MOMENTUM_LOCAL = 2,
    SADDLE_MOMENTUM_GLOBAL = 3 /* quasi-global, two buffers' arithmetic: the form of the QGM paper */
} saddle_momentum;

typedef enum saddle_order {
    SADDLE_ORDER_DEFAULT = 0, /* as the variant has it */
    SADDLE_ATC = 1,           /* adapt, then combine; not with cross-gradients */
    SADDLE_CTA = 2,           /* combine, then adapt */
    SADDLE_CWA = 3            /* combine while adapting */
} saddle_order;

typedef enum saddle_feedback {
    SADDLE_FEEDBACK_DEFAULT = 0, /* WEFT_CODEC_IDENTITY: none; others: SADDLE_DIFFERENCE */
    SADDLE_NO_FEEDBACK = 1,      /* what a codec takes away is lost */
    SADDLE_DIFFERENCE = 2,
    SADDLE_FEEDBACK = 3
} saddle_feedback;

/* What a gradient that is not finite does. */
typedef enum saddle_guard {
    SADDLE_GUARD_REFUSE = 0, /* WEFT_ERR_NONFINITE; the next saddle_next takes it that it has been mended */
    SADDLE_GUARD_ZERO = 1    /* it counts as zeros */
} saddle_guard;

/* What workers that begin together make of each other's initial parameters. */
typedef enum saddle_initial {
    SADDLE_INITIAL_CHECK = 0, /* hashes must agree, else WEFT_ERR_MISMATCH with both, and the link is refused */
    SADDLE_INITIAL_KEEP = 1   /* everyone starts from its own */
} saddle_initial;

/* Do i and j exchange in this step? The same answer at both ends, and for (i, j) and (j, i). */
typedef int (*saddle_active_fn)(void *ctx, uint64_t step, uint32_t i, uint32_t j);

/* For WEFT_CODEC_QSGD: u in [0, 1) for each element of a tensor of the message to `peer` (WEFT_NO_RANK: the model, to
 * all; this worker's own rank: its own gradient), or NULL: drawn from the seed. To replay published runs. */
typedef const double *(*saddle_uniform_fn)(void *ctx, uint64_t step, uint32_t peer, size_t tensor);

/* Everything saddle_init wants to know. Fill struct_size, params, transport, graph and learning_rate; zero is the
 * default of every other field. Pointers are to the host's memory: the descriptor itself, gradient_codec and
 * group_of_tensor are copied; tensor list, transport, graph and pool must outlive the object. Fields marked (F) are the
 * same on all workers. */
typedef struct saddle_desc {
    size_t struct_size;              /* sizeof(saddle_desc) */
    weft_tensors params;             /* (F: shapes, types) parameters, in place; f32 and f64 */
    const weft_transport *transport; /* the host's network; its size is the graph's */
    const weft_graph *graph;         /* (F) connected */
    const weft_pool *pool;           /* the host's threads; NULL: serial */
    uint32_t channel;         /* the same on all workers: 0 .. WEFT_CHANNELS-1; objects sharing a transport differ */
    weft_isa isa;             /* force an instruction set; saddle_effective tells which one is in use */
    saddle_variant variant;   /* (F) */
    saddle_order order;       /* (F) */
    saddle_momentum momentum; /* (F) */
    double learning_rate;     /* eta > 0, of the first steps */
    double rho;               /* (F) radius of the climb; WEFT_ZERO: 0. Only for SADDLE_Q and SADDLE_N */
    double beta;              /* (F) momentum in [0, 1); default 0.9; WEFT_ZERO: 0 */
    double mu;                /* (F) of the quasi-global buffer, in [0, 1); default: beta; WEFT_ZERO: 0 */
    int nesterov;             /* (F) default on; WEFT_ZERO: off */
    double weight_decay;      /* (F) lambda >= 0 */
    double gamma;             /* (F) how far to go towards the average, in (0, 1]; default 1 */
    double share;             /* (F) of gradients that come, against those taken at neighbours' models, in [0, 1];
                                      * default 1; WEFT_ZERO: 0, nothing is sent but models */
    weft_mixing_rule mixing;  /* (F) */
    weft_weight_fn weight;    /* WEFT_OWN_WEIGHTS: symmetric, the rows' sums without i itself at most 1 */
    void *weight_ctx;
    saddle_active_fn active; /* graphs that change with the step: which edges count; NULL: all of them, always */
    void *active_ctx;
    weft_codec codec;                 /* (F) */
    saddle_feedback feedback;         /* (F) */
    const weft_codec *gradient_codec; /* (F) of cross-gradients; NULL: as codec */
    int gradient_feedback;            /* (F) default on; WEFT_ZERO: off */
    int compress_self;                /* (F) 1: its own gradient goes through the codec of cross-gradients, too */
    const uint32_t *group_of_tensor;  /* norm of the climb by group: of each tensor, 0 .. groups-1; NULL: one norm */
    uint32_t groups;                  /* 0 with group_of_tensor NULL */
    saddle_guard guard;
    saddle_initial initial;
    int join;     /* 1: comes later, or again, with parameters of its own, and takes over the number of the step */
    int in_place; /* 1: gradients are wanted at params only, which change meanwhile */
    uint64_t seed;
    saddle_uniform_fn uniform; /* may be NULL */
    void *uniform_ctx;
    uint32_t piece_bytes; /* (F) longest bulk message; default 262,144, at least 4,096; never above the transport's */
    uint64_t timeout_ns;  /* nothing moves for so long: WEFT_ERR_TIMEOUT, polling may go on; 0: never */
    weft_trace_fn trace;  /* may be NULL */
    void *trace_ctx;
#ifdef WEFT_CUDA
    const weft_cuda *cuda; /* NULL: params are host memory; else they, what is wanted and `uniform` are device memory */
#endif
} saddle_desc;

/* A gradient that is wanted. Both lists have the shapes and types of the parameters. */
typedef struct saddle_want {
    weft_tensors at;     /* the parameters to be differentiated at; read only */
    weft_tensors into;   /* the gradient: every element is to be written */
    uint32_t peer;       /* whose model this is (or is near): a neighbour's rank, or this worker's own */
    int climbed;         /* 1: the second one of SAM, at x + eps */
    uint32_t evaluation; /* of this step, from 0 */
} saddle_want;

/* Called by saddle_step. An error is handed through; the gradient is then still wanted. */
typedef weft_status (*saddle_gradient_fn)(void *ctx, const saddle_want *want);

/* Counters since saddle_init (those up to `traffic` as loaded, if so). */
typedef struct saddle_stats_t {
    uint64_t steps;       /* completed */
    uint64_t evaluations; /* gradients asked for */
    uint64_t exchanges;   /* models of neighbours averaged in */
    uint64_t skipped;     /* neighbours that were there but did not take part to the end of a step, steps counted */
    uint64_t nonfinite;   /* gradients that were not finite */
    weft_traffic traffic;
    uint64_t lost;       /* links of this worker lost */
    uint64_t faults;     /* malformed messages and failed callbacks */
    uint32_t neighbours; /* links that are up now */
} saddle_stats_t;

/* Bits of saddle_state: which verbs are legal now. close, stats, detail and the like always are. */
enum {
    SADDLE_MAY_NEXT = 1,  /* saddle_next, saddle_wait, saddle_step */
    SADDLE_MAY_SET = 2,   /* between steps: saddle_save, saddle_leave, setters; the parameters are the host's */
    SADDLE_MAY_GIVE = 4,  /* a gradient is wanted */
    SADDLE_MAY_POLL = 8,  /* something is in progress (saddle_poll is legal at any time) */
    SADDLE_MAY_LOAD = 16, /* saddle_load: after init, before anything else */
    SADDLE_MAY_LINK = 32  /* saddle_peer_lost, saddle_peer_up */
};

/* Bytes that saddle_init needs for this descriptor; 0 if the descriptor is refused (report->detail says why).
 * `report`, if not NULL, is overwritten with every buffer by name. */
#define saddle_memory(desc, report) saddle_memory_abi((desc), (report), sizeof(saddle_desc), WEFT_ABI)
SADDLE_API size_t saddle_memory_abi(const saddle_desc *desc, weft_memory_report *report, size_t desc_size,
                                    uint32_t abi);

/* Makes *out inside `memory` (the caller's, any alignment, at least saddle_memory bytes; it must stay until
 * saddle_close). Sends nothing. Errors: ARGUMENT, ABI, MEMORY, OVERFLOW, UNSUPPORTED, FLOAT_ENV; *out is then NULL and
 * *detail, if not NULL, says why. */
#define saddle_init(out, desc, memory, bytes)                                                                          \
    saddle_init_abi((out), (desc), (memory), (bytes), NULL, sizeof(saddle_desc), WEFT_ABI)
#define saddle_init_detail(out, desc, memory, bytes, detail)                                                           \
    saddle_init_abi((out), (desc), (memory), (bytes), (detail), sizeof(saddle_desc), WEFT_ABI)
SADDLE_API weft_status saddle_init_abi(saddle **out, const saddle_desc *desc, void *memory, size_t bytes,
                                       weft_detail *detail, size_t desc_size, uint32_t abi);

/* One step, as described above: WEFT_WANT_GRADIENT (*want is filled in), WEFT_AGAIN, WEFT_OK, or an error. The first
 * one says hello to the neighbours; it waits for all of them that are not known to be lost. NONFINITE: the parameters
 * (at the beginning of a step) or a gradient; after a result that is not finite (field "diverged") no further step is
 * possible, and the parameters are those of the last one. */
SADDLE_API weft_status saddle_next(saddle *x, saddle_want *want);

/* saddle_next until something other than WEFT_AGAIN comes, sleeping in the transport's `wait` where there is one. After
 * saddle_leave, want may be NULL. */
SADDLE_API weft_status saddle_wait(saddle *x, saddle_want *want);

/* A whole step, gradients by callback: WEFT_OK, WEFT_AGAIN (call again), or an error. The callback calls no verb. */
SADDLE_API weft_status saddle_step(saddle *x, saddle_gradient_fn gradient, void *ctx);

/* Moves messages, while a gradient is computed or between steps. WEFT_WANT_GRADIENT: one is wanted, still or now
 * (saddle_next tells which); WEFT_AGAIN: a step or a good-bye is in progress; WEFT_OK: nothing is. */
SADDLE_API weft_status saddle_poll(saddle *x);

/* Of the steps from now on; above 0, since quasi-global momentum divides by it. */
SADDLE_API weft_status saddle_set_learning_rate(saddle *x, double learning_rate);

/* Says good-bye after the last step: the others go on without this worker. Poll until WEFT_OK, then close. */
SADDLE_API weft_status saddle_leave(saddle *x);

/* The host has learnt that `rank`, or the link to it, is gone, or is usable again. Both ends of a link that comes back
 * need the second. Legal at any time; those that are not neighbours are no news. */
SADDLE_API weft_status saddle_peer_lost(saddle *x, uint32_t rank);
SADDLE_API weft_status saddle_peer_up(saddle *x, uint32_t rank);

/* Everything but the parameters that shapes what follows, as one blob (versioned, checksummed, endian-neutral), between
 * steps: momentum, feedback, the number of the step. *bytes is set to the length; with buf NULL only that. Parameters
 * are the host's to save. Load: into a fresh object of the same descriptor, rank and graph. If all workers are saved
 * after the same step and loaded, the run goes on as if it had never stopped, bit for bit. With `join` a worker comes
 * back alone: momentum and error memory are as they were saved, the number of the step is the others', and public
 * copies go whole. Hostile blobs give an error, the object is then as before. */
SADDLE_API weft_status saddle_save(saddle *x, void *buf, size_t capacity, size_t *bytes);
SADDLE_API weft_status saddle_load(saddle *x, const void *buf, size_t bytes);
/* The same through callbacks (state.h), for blobs that no memory has room for. `write` NULL: only the length. */
SADDLE_API weft_status saddle_save_to(saddle *x, weft_write_fn write, void *ctx, size_t *bytes);
SADDLE_API weft_status saddle_load_from(saddle *x, weft_read_fn read, void *ctx, size_t bytes);

/* What saddle_buffer shows. */
typedef enum saddle_buffer_kind {
    SADDLE_OF_MOMENTUM = 0,
    SADDLE_OF_MODEL = 1, /* error memory (SADDLE_FEEDBACK) or public copy (SADDLE_DIFFERENCE) of this worker's model */
    SADDLE_OF_COPY = 2,  /* a neighbour's public copy, as it is here */
    SADDLE_OF_GRADIENT = 3 /* error memory of the gradients sent to a neighbour; own rank: of its own gradient */
} saddle_buffer_kind;

/* Reading. The descriptor comes back with defaults filled in. */
SADDLE_API void saddle_stats(const saddle *x, saddle_stats_t *out);
SADDLE_API void saddle_effective(const saddle *x, saddle_desc *out);
SADDLE_API const weft_detail *saddle_detail(const saddle *x); /* never NULL, but for x == NULL */
SADDLE_API const weft_detail *saddle_fault(const saddle *x);  /* of the last link that nonsense ended; likewise */
SADDLE_API uint32_t saddle_state(const saddle *x);
SADDLE_API weft_link_state saddle_link(const saddle *x, uint32_t rank); /* DOWN for whoever is no neighbour */
/* A buffer of this tensor's type and shape, to be looked at only; NULL: there is none. */
SADDLE_API const void *saddle_buffer(const saddle *x, saddle_buffer_kind kind, uint32_t peer, size_t tensor);

/* Cancels every message under way, and puts the parameters back. Afterwards the memory is the host's again and no verb
 * is legal. Needs nobody's cooperation. */
SADDLE_API void saddle_close(saddle *x);

#endif /* SADDLE_H */

#if defined SADDLE_IMPLEMENTATION && !defined SADDLE_IMPLEMENTED
#define SADDLE_IMPLEMENTED

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
#include SADDLE_HEADER
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
#include SADDLE_HEADER
#undef WEFT_DEVICE_PART
#endif

#endif /* WEFT_KERNELS_IMPLEMENTATION */

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

/* ---- src/weft/link.h: implementation --------------------------------------------------------- */
#ifndef WEFT_LINK_IMPLEMENTATION
#define WEFT_LINK_IMPLEMENTATION

/* ---- Letters ----
 *
 * Between neighbours that have said hello, control messages have a header of 20 bytes, little-endian, since there are
 * many of them:  0 u16 magic 'wl'  2 u8 wire version, and 128 if the sender is big-endian  3 u8 kind  4 u32 the
 * sender's attempt  8 u32 id  12 u32 count  16 u32 CRC-32C of the sender's rank and the message with this field zero
 * 20 ... payload. HELLO and BYE have the header of wire.h. */
enum { WEFT_LETTER_BYTES = 20 };
#define WEFT_LETTER_MAGIC 0x6C77u

/* ---- The handshake ----
 *
 * Each end numbers its attempts to open the link; a HELLO carries the number of its sender's attempt and the other
 * end's that it answers, or 0. A link is up for an end that has read an answer to its own present attempt. Letters
 * carry the sender's number: what belongs to an attempt that is over is dropped. A HELLO of another attempt, or that
 * answers nothing, on a link that is up, says that the other end begins anew: then so does this one. One that answers
 * an attempt that is over (both ends have begun anew, and each has read what the other said before) is answered. */

enum { WEFT_LINK_LETTERS = 2 };                      /* control messages under way to one neighbour */
enum { WEFT_LINK_REQUESTS = WEFT_LINK_LETTERS + 3 }; /* and a control receive, a bulk send, a bulk receive */
enum { WEFT_LINK_PATIENCE = 8 };                     /* malformed messages after which a link is given up */
enum { WEFT_LINK_AMENDS = 256 };                     /* good letters that make up for one of them */
enum { WEFT_LINK_HELLO = WEFT_KIND_SYNC, WEFT_LINK_LETTER = WEFT_KIND_EXCHANGE, WEFT_LINK_BYE = WEFT_KIND_LEAVE };

typedef struct weft_link {
    uint32_t rank;
    weft_link_state state;
    int in; /* the control receive: WEFT_IN_... */
    int failing, hello_due, bye_due, out_active, in_active;
    uint32_t mine, theirs, answered; /* answered: the attempt of theirs that this end has answered last */
    uint32_t faults, good;
    size_t in_bytes; /* expected of the bulk receive; of one that may be shorter, at most */
    int in_shorter;
    weft_request request, out, bulk;
    unsigned char bytes[WEFT_CONTROL_BYTES];
    weft_header head; /* of the message held */
    weft_letter slot[WEFT_LINK_LETTERS];
} weft_link;

/* The owner. hello: fills in arg0, round and payload of this end's HELLO. up: an answer is here, the link is up unless
 * an error says that it must not be. down: it was up or opening, and is no more. letter: an error says that it is
 * malformed. busy: bulk data that a letter has announced is still to come, so that a good-bye has to wait. They post
 * nothing. Control messages are read whatever bulk data is under way: a hello among them says that it will not come. */
typedef struct weft_link_owner {
    void *self;
    void (*hello)(void *self, uint32_t slot, weft_header *h, unsigned char *payload);
    weft_status (*up)(void *self, uint32_t slot, const weft_header *h, const unsigned char *payload, weft_detail *d);
    void (*down)(void *self, uint32_t slot, int left);
    weft_status (*letter)(void *self, uint32_t slot, const weft_header *h, const unsigned char *payload,
                          weft_detail *d);
    int (*busy)(void *self, uint32_t slot);
} weft_link_owner;

typedef struct weft_links {
    const weft_transport *net;
    weft_link_owner owner;
    weft_link *link; /* one a neighbour */
    uint32_t count, channel;
    uint64_t round;    /* for detail and trace: where the owner is */
    const char *phase; /* likewise */
    int progress, moved;
    weft_status refused;       /* a neighbour runs with other settings: said once by the next verb */
    weft_detail detail, fault; /* fault: why a link was last given up */
    uint64_t faults, lost;
    weft_traffic traffic;
    weft_trace_fn trace;
    void *trace_ctx;
#ifdef WEFT_CUDA
    weft_gpu *gpu; /* computes what is sent; NULL: the processor does */
#endif
} weft_links;

WEFT_FN WEFT_NOINLINE void weft_link_trace(const weft_links *n, weft_event_kind kind, uint32_t peer, uint64_t round,
                                           uint64_t value) {
    weft_event e;
    if (!n->trace) return;
    e.kind = (uint32_t)kind;
    e.rank = n->net->rank;
    e.peer = peer;
    e.round = round;
    e.value = value;
    e.phase = n->phase;
    n->trace(n->trace_ctx, &e);
}

WEFT_FN WEFT_NOINLINE weft_status weft_link_say(weft_links *n, weft_detail *d, weft_status s, uint32_t peer,
                                                const char *field, uint64_t expected, uint64_t got) {
    weft_refuse(d, s, field, expected, got);
    d->peer = peer;
    d->round = n->round;
    d->phase = n->phase;
    return s;
}

/* Takes back what is under way. */
WEFT_FN void weft_link_cancel(weft_links *n, weft_link *l) {
    const weft_transport *t = n->net;
    int i;
    if (l->out_active) t->cancel(t->ctx, &l->out);
    if (l->in_active) t->cancel(t->ctx, &l->bulk);
    if (l->in == WEFT_IN_POSTED) t->cancel(t->ctx, &l->request);
    for (i = 0; i < WEFT_LINK_LETTERS; i++) {
        if (l->slot[i].busy) t->cancel(t->ctx, &l->slot[i].request);
        l->slot[i].busy = 0;
    }
    l->out_active = l->in_active = l->failing = l->hello_due = l->bye_due = 0;
    l->in = WEFT_IN_NONE;
}

/* The link is no more. */
WEFT_FN WEFT_NOINLINE void weft_link_down(weft_links *n, uint32_t slot, int left) {
    weft_link *l = &n->link[slot];
    weft_link_state was = l->state;
    weft_link_cancel(n, l);
    l->state = left ? WEFT_LINK_LEFT : WEFT_LINK_DOWN;
    l->theirs = l->answered = 0;
    n->moved = n->progress = 1;
    if (was != WEFT_LINK_UP && was != WEFT_LINK_OPENING) return;
    n->lost += !left;
    weft_link_trace(n, left ? WEFT_EVENT_PEER_LEFT : WEFT_EVENT_PEER_LOST, l->rank, n->round, 0);
    n->owner.down(n->owner.self, slot, left);
}

WEFT_FN void weft_link_open(weft_links *n, uint32_t slot) {
    weft_link *l = &n->link[slot];
    weft_link_cancel(n, l);
    l->state = WEFT_LINK_OPENING;
    l->theirs = l->answered = 0;
    l->mine += l->mine == UINT32_MAX ? 2u : 1u;
    l->hello_due = 1;
    n->moved = 1;
}

/* What came is not what a neighbour of this library sends. The link begins anew, which tells the other end; if that
 * does not help, it is over, with a good-bye. */
WEFT_FN WEFT_NOINLINE void weft_link_fault(weft_links *n, uint32_t slot, weft_status s, const char *field,
                                           uint64_t expected, uint64_t got) {
    weft_link *l = &n->link[slot];
    weft_link_say(n, &n->fault, s, l->rank, field, expected, got);
    n->faults++;
    l->good = 0;
    weft_link_down(n, slot, 0);
    if (l->faults++ < WEFT_LINK_PATIENCE)
        weft_link_open(n, slot);
    else
        l->bye_due = 1;
}

/* A callback has failed: WEFT_ERR_PEER_LOST, or for a reason of its own, after which the link begins anew. What a lost
 * neighbour sent before it went may still be there to be read: `failing` waits for one more look. */
WEFT_FN void weft_link_error(weft_links *n, uint32_t slot, weft_status s, int reading) {
    n->moved = 1;
    if (n->link[slot].state != WEFT_LINK_UP && n->link[slot].state != WEFT_LINK_OPENING) return; /* it is over */
    if (s != WEFT_ERR_PEER_LOST)
        weft_link_fault(n, slot, WEFT_ERR_TRANSPORT, WEFT_TEXT("status of a callback"), 0, weft_status_value(s));
    else if (reading)
        weft_link_down(n, slot, 0);
    else
        n->link[slot].failing = 1;
}

WEFT_FN uint32_t weft_letter_crc(unsigned char *p, size_t bytes, uint32_t sender) {
    unsigned char rank[4];
    weft_put32(rank, sender);
    weft_put32(p + 16, 0);
    return weft_crc32c(weft_crc32c(0, rank, 4), p, bytes);
}

/* Sends a control message if there is room; WEFT_AGAIN if not. h: of a HELLO or BYE, kind, round, bytes and arg0; of a
 * letter, step (its kind), piece (id) and round (count). The payload is copied. To a link that fails it is lost:
 * WEFT_OK. */
WEFT_FN weft_status weft_link_post(weft_links *n, uint32_t slot, weft_header *h, const void *payload, uint32_t bytes) {
    weft_link *l = &n->link[slot];
    unsigned char *p;
    weft_status s;
    size_t all;
    int i;
    for (i = 0; i < WEFT_LINK_LETTERS && l->slot[i].busy; i++) continue;
    if (i == WEFT_LINK_LETTERS || WEFT_GPU_IS_BROKEN(n)) return WEFT_AGAIN;
    if (l->failing) return WEFT_OK;
    p = l->slot[i].bytes;
    if (h->kind == WEFT_LINK_LETTER) {
        all = WEFT_LETTER_BYTES + bytes;
        if (bytes) memcpy(p + WEFT_LETTER_BYTES, payload, bytes);
        p[0] = WEFT_LETTER_MAGIC & 0xFFu;
        p[1] = WEFT_LETTER_MAGIC >> 8;
        p[2] = (unsigned char)(WEFT_WIRE_VERSION | weft_big_endian() << 7);
        p[3] = (unsigned char)h->step;
        weft_put32(p + 4, l->mine);
        weft_put32(p + 8, h->piece);
        weft_put32(p + 12, (uint32_t)h->round);
        weft_put32(p + 16, weft_letter_crc(p, all, n->net->rank));
    } else {
        h->big_endian = weft_big_endian();
        h->epoch = l->mine;
        h->sender = n->net->rank;
        h->payload = bytes;
        if (bytes) memcpy(p + WEFT_HEADER_BYTES, payload, bytes);
        all = weft_header_write(p, h);
    }
    memset(&l->slot[i].request, 0, sizeof l->slot[i].request);
    s = n->net->send(n->net->ctx, l->rank, n->channel * WEFT_TAGS_PER_CHANNEL, p, all, &l->slot[i].request);
    n->moved = 1;
    if (s < 0) {
        weft_link_error(n, slot, s, 0);
        return WEFT_OK;
    }
    l->slot[i].busy = 1;
    n->progress = 1;
    n->traffic.control_sent += all;
    n->traffic.messages_sent++;
    weft_link_trace(n, WEFT_EVENT_SENT, l->rank, n->round, all);
    return WEFT_OK;
}

/* Reads and checks what has come; *h is only set if all of it holds. */
WEFT_FN weft_status weft_link_read(unsigned char *p, size_t bytes, uint32_t from, weft_header *h, weft_detail *d) {
    uint32_t crc, got;
    if (bytes < WEFT_LETTER_BYTES || p[0] != (WEFT_LETTER_MAGIC & 0xFFu) || p[1] != WEFT_LETTER_MAGIC >> 8) {
        weft_header r;
        weft_status s = weft_header_read(p, bytes, from, &r, d);
        if (s < 0) return s;
        if (r.kind != WEFT_LINK_HELLO && r.kind != WEFT_LINK_BYE)
            return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("header.kind"), WEFT_LINK_HELLO, r.kind);
        *h = r;
        return WEFT_OK;
    }
    if ((p[2] & 127u) != WEFT_WIRE_VERSION)
        return weft_refuse(d, WEFT_ERR_VERSION, WEFT_TEXT("letter.version"), WEFT_WIRE_VERSION, p[2] & 127u);
    got = weft_get32(p + 16);
    crc = weft_letter_crc(p, bytes, from);
    if (got != crc) return weft_refuse(d, WEFT_ERR_CHECKSUM, WEFT_TEXT("letter.crc"), crc, got);
    memset(h, 0, sizeof *h);
    h->kind = WEFT_LINK_LETTER;
    h->big_endian = p[2] >> 7;
    h->step = p[3];
    h->epoch = weft_get32(p + 4);
    h->sender = from;
    h->piece = weft_get32(p + 8);
    h->round = weft_get32(p + 12);
    h->payload = (uint32_t)(bytes - WEFT_LETTER_BYTES);
    return WEFT_OK;
}

/* The payload of the message held. */
WEFT_FN const unsigned char *weft_link_payload(const weft_link *l) {
    return l->bytes + (l->head.kind == WEFT_LINK_LETTER ? (size_t)WEFT_LETTER_BYTES : (size_t)WEFT_HEADER_BYTES);
}

/* Is a letter free? */
WEFT_FN int weft_link_room(const weft_link *l) {
    int i;
    for (i = 0; i < WEFT_LINK_LETTERS; i++)
        if (!l->slot[i].busy) return 1;
    return 0;
}

WEFT_FN void weft_link_hello(weft_links *n, uint32_t slot) {
    unsigned char payload[WEFT_INLINE_BYTES];
    weft_link *l = &n->link[slot];
    weft_header h;
    memset(&h, 0, sizeof h);
    h.kind = WEFT_LINK_HELLO;
    h.bytes = l->theirs; /* answers this */
    n->owner.hello(n->owner.self, slot, &h, payload);
    if (!weft_link_room(l)) return;
    l->answered = l->theirs;
    l->hello_due = 0; /* if it fails, another one is due */
    weft_link_post(n, slot, &h, payload, h.payload);
}

/* The other end's HELLO. */
WEFT_FN void weft_link_take_hello(weft_links *n, uint32_t slot, const weft_header *h, const unsigned char *payload) {
    weft_link *l = &n->link[slot];
    weft_detail why = weft_detail_none();
    weft_status s;
    if (h->epoch == 0 || h->bytes > UINT32_MAX) {
        weft_link_fault(n, slot, WEFT_ERR_PROTOCOL, WEFT_TEXT("hello"), 1, h->epoch);
        return;
    }
    if (l->state == WEFT_LINK_UP || h->bytes != l->mine) {
        if (l->state == WEFT_LINK_UP) {
            if (h->bytes && h->epoch == l->theirs) return; /* old */
            weft_link_down(n, slot, 0);
            weft_link_open(n, slot);
        }
        l->theirs = h->epoch;
        if (!h->bytes || l->answered != l->theirs) l->hello_due = 1;
        return;
    }
    l->theirs = h->epoch;
    s = n->owner.up(n->owner.self, slot, h, payload, &why);
    if (s == WEFT_ERR_PROTOCOL) {
        weft_link_fault(n, slot, s, why.field, why.expected, why.got);
        return;
    }
    if (s < 0) {
        const int unanswered = l->answered != h->epoch;
        n->refused = weft_link_say(n, &n->fault, s, l->rank, why.field, why.expected, why.got);
        weft_link_down(n, slot, 0);
        l->bye_due = 1;
        if (unanswered) { /* so that the other end sees as well what differs */
            l->theirs = h->epoch;
            l->hello_due = 1;
        }
        return;
    }
    l->state = WEFT_LINK_UP;
    l->hello_due = l->answered != l->theirs;
    n->moved = 1;
}

/* A whole control message is here. 1: on to the next one. A good-bye may have to wait. */
WEFT_FN int weft_link_take(weft_links *n, uint32_t slot) {
    weft_link *l = &n->link[slot];
    const unsigned char *payload = weft_link_payload(l);
    const weft_header *h = &l->head;
    weft_detail why = weft_detail_none();
    weft_status s;
    if (h->kind == WEFT_LINK_HELLO) {
        l->in = WEFT_IN_NONE;
        weft_link_take_hello(n, slot, h, payload);
        return l->state == WEFT_LINK_UP || l->state == WEFT_LINK_OPENING;
    }
    if (h->kind == WEFT_LINK_BYE && h->bytes && l->state == WEFT_LINK_OPENING && h->epoch == l->theirs) {
        weft_link_down(n, slot, 0); /* it has thought better of it */
        return 0;
    }
    if (l->state != WEFT_LINK_UP || h->epoch != l->theirs) {
        n->traffic.dropped++;
        l->in = WEFT_IN_NONE;
        return 1;
    }
    if (h->kind == WEFT_LINK_BYE) { /* with `bytes`: from a link that was given up, and nothing more comes */
        if (!h->bytes && n->owner.busy(n->owner.self, slot)) return 0;
        weft_link_down(n, slot, !h->bytes);
        return 0;
    }
    l->in = WEFT_IN_NONE;
    s = n->owner.letter(n->owner.self, slot, h, payload, &why);
    if (s < 0) {
        weft_link_fault(n, slot, s, why.field, why.expected, why.got);
        return 0;
    }
    if (l->faults && ++l->good == WEFT_LINK_AMENDS) {
        l->faults--;
        l->good = 0;
    }
    return 1;
}

/* Reads what has come, as far as it can be taken now. The bound keeps a flood from one neighbour from starving the
 * host. */
WEFT_FN void weft_link_receive(weft_links *n, uint32_t slot) {
    weft_link *l = &n->link[slot];
    const weft_transport *t = n->net;
    weft_detail why;
    weft_status s;
    int bound;
    for (bound = 0; bound < 64; bound++) {
        if (l->state != WEFT_LINK_UP && l->state != WEFT_LINK_OPENING) return;
        if (l->in == WEFT_IN_HELD && !weft_link_take(n, slot)) return;
        if (l->in == WEFT_IN_NONE) {
            memset(&l->request, 0, sizeof l->request);
            s = t->recv(t->ctx, l->rank, n->channel * WEFT_TAGS_PER_CHANNEL, l->bytes, WEFT_CONTROL_BYTES, &l->request);
            if (s < 0) {
                weft_link_error(n, slot, s, 1);
                return;
            }
            l->in = WEFT_IN_POSTED;
        }
        s = t->test(t->ctx, &l->request);
        if (s == WEFT_AGAIN) return;
        l->in = WEFT_IN_NONE;
        n->moved = n->progress = 1;
        if (s == WEFT_ERR_TRUNCATED) {
            weft_link_fault(n, slot, WEFT_ERR_PROTOCOL, WEFT_TEXT("length"), WEFT_CONTROL_BYTES, l->request.bytes);
            return;
        }
        if (s < 0) {
            weft_link_error(n, slot, s, 1);
            return;
        }
        n->traffic.messages_received++;
        n->traffic.control_received += l->request.bytes;
        weft_link_trace(n, WEFT_EVENT_RECEIVED, l->rank, n->round, l->request.bytes);
        why = weft_detail_none();
        s = weft_link_read(l->bytes, l->request.bytes > SIZE_MAX ? 0 : (size_t)l->request.bytes, l->rank, &l->head,
                           &why);
        if (s < 0) {
            weft_link_fault(n, slot, s, why.field, why.expected, why.got);
            return;
        }
        l->in = WEFT_IN_HELD;
        if (!weft_link_take(n, slot)) return;
    }
    n->moved = 1; /* there may be more */
}

/* Whatever can move on a link without waiting, but for bulk data. */
WEFT_FN void weft_link_pump(weft_links *n, uint32_t slot) {
    weft_link *l = &n->link[slot];
    weft_header h;
    weft_status s;
    int i;
    weft_link_receive(n, slot);
    for (i = 0; i < WEFT_LINK_LETTERS; i++) {
        if (!l->slot[i].busy || (s = n->net->test(n->net->ctx, &l->slot[i].request)) == WEFT_AGAIN) continue;
        l->slot[i].busy = 0;
        n->moved = n->progress = 1;
        if (s < 0 && l->state != WEFT_LINK_DOWN) weft_link_error(n, slot, s, 0);
    }
    if (l->failing) {
        weft_link_receive(n, slot);
        if (l->failing) weft_link_down(n, slot, 0);
    }
    if (l->hello_due) weft_link_hello(n, slot);
    if (l->bye_due) {
        memset(&h, 0, sizeof h);
        h.kind = WEFT_LINK_BYE;
        h.bytes = l->state == WEFT_LINK_DOWN;
        if (weft_link_post(n, slot, &h, NULL, 0) == WEFT_OK) l->bye_due = l->failing = 0;
    }
}

/* ---- Bulk data: one piece at a time in each direction ----
 *
 * Each attempt has a tag of its own, so that what an older one left in the network is never taken for this one's. */
WEFT_FN uint32_t weft_link_tag(const weft_links *n, const weft_link *l) {
    return n->channel * WEFT_TAGS_PER_CHANNEL + 1u + (l->mine + l->theirs) % (WEFT_TAGS_PER_CHANNEL - 1u);
}

WEFT_FN void weft_link_send(weft_links *n, uint32_t slot, const void *data, size_t bytes) {
    weft_link *l = &n->link[slot];
    weft_status s;
    if (l->failing || l->state != WEFT_LINK_UP || WEFT_GPU_IS_BROKEN(n)) return;
    memset(&l->out, 0, sizeof l->out);
    s = n->net->send(n->net->ctx, l->rank, weft_link_tag(n, l), data, bytes, &l->out);
    n->moved = 1;
    if (s < 0) {
        weft_link_error(n, slot, s, 0);
        return;
    }
    l->out_active = 1;
    n->traffic.payload_sent += bytes;
    n->traffic.messages_sent++;
    weft_link_trace(n, WEFT_EVENT_SENT, l->rank, n->round, bytes);
}

/* Is the piece gone (or the link)? */
WEFT_FN int weft_link_sent(weft_links *n, uint32_t slot) {
    weft_link *l = &n->link[slot];
    weft_status s;
    if (!l->out_active) return 1;
    s = n->net->test(n->net->ctx, &l->out);
    if (s == WEFT_AGAIN) return 0;
    l->out_active = 0;
    n->moved = n->progress = 1;
    if (s < 0) weft_link_error(n, slot, s, 0);
    return 1;
}

/* Whoever sets in_shorter after this takes any length up to `bytes`, and finds it in in_bytes. */
WEFT_FN void weft_link_fetch(weft_links *n, uint32_t slot, void *into, size_t bytes) {
    weft_link *l = &n->link[slot];
    weft_status s;
    memset(&l->bulk, 0, sizeof l->bulk);
    l->in_bytes = bytes;
    l->in_shorter = 0;
    s = n->net->recv(n->net->ctx, l->rank, weft_link_tag(n, l), into, bytes, &l->bulk);
    if (s < 0)
        weft_link_error(n, slot, s, 1);
    else
        l->in_active = 1;
}

/* WEFT_OK: the piece is here; WEFT_AGAIN: not yet; an error: the link is down. */
WEFT_FN weft_status weft_link_fetched(weft_links *n, uint32_t slot) {
    weft_link *l = &n->link[slot];
    weft_status s;
    if (!l->in_active) return WEFT_ERR_PEER_LOST;
    s = n->net->test(n->net->ctx, &l->bulk);
    if (s == WEFT_AGAIN) return s;
    l->in_active = 0;
    n->moved = n->progress = 1;
    if (s == WEFT_OK && l->in_shorter && l->bulk.bytes < l->in_bytes) l->in_bytes = (size_t)l->bulk.bytes;
    if (s == WEFT_ERR_TRUNCATED || (s == WEFT_OK && l->bulk.bytes != l->in_bytes)) {
        weft_link_fault(n, slot, WEFT_ERR_PROTOCOL, WEFT_TEXT("bulk length"), l->in_bytes, l->bulk.bytes);
        return WEFT_ERR_PROTOCOL;
    }
    if (s < 0) {
        weft_link_error(n, slot, s, 1);
        return s;
    }
    n->traffic.payload_received += l->in_bytes;
    n->traffic.messages_received++;
    weft_link_trace(n, WEFT_EVENT_RECEIVED, l->rank, n->round, l->in_bytes);
    return WEFT_OK;
}

/* Are all control messages gone, but for those to whom this end has given up? Those may not be listening any more. */
WEFT_FN int weft_links_flushed(const weft_links *n) {
    uint32_t k;
    int i;
    for (k = 0; k < n->count; k++)
        for (i = 0; i < WEFT_LINK_LETTERS; i++)
            if (n->link[k].slot[i].busy && n->link[k].state != WEFT_LINK_DOWN) return 0;
    return 1;
}

WEFT_FN void weft_links_close(weft_links *n) {
    uint32_t k;
    for (k = 0; k < n->count; k++) {
        weft_link_cancel(n, &n->link[k]);
        n->link[k].state = WEFT_LINK_DOWN;
    }
    WEFT_GPU_SETTLE(*n); /* nothing is left to be done in memory that goes back to the host */
}

#endif /* WEFT_LINK_IMPLEMENTATION */

/* ---- src/weft/graph.h: implementation -------------------------------------------------------- */
#ifndef WEFT_GRAPH_IMPLEMENTATION
#define WEFT_GRAPH_IMPLEMENTATION

/* Is this a graph that an object of so many workers may use? */
WEFT_FN weft_status weft_graph_check(const weft_graph *g, uint32_t workers, weft_detail *d) {
    if (!g) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("graph"), 1, 0);
    if (g->struct_size != sizeof *g)
        return weft_refuse(d, WEFT_ERR_ABI, WEFT_TEXT("graph.struct_size"), sizeof *g, g->struct_size);
    if (g->workers == 0)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("graph (not made)"), workers ? workers : 1, 0);
    if (g->workers != workers)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("graph.workers"), workers, g->workers);
    return WEFT_OK;
}

/* For the fingerprint: have two workers the same graph? */
WEFT_FN uint64_t weft_graph_hash(const weft_graph *g) {
    uint64_t h = weft_graph_draw(g->workers, g->edges);
    uint32_t i;
    for (i = 0; i < g->edges; i++) {
        weft_edge e = weft_graph_edge(g, i);
        h = weft_graph_draw(h, (uint64_t)e.a << 32 | e.b);
    }
    return h;
}

/* ---- The doctor ----
 *
 * The eigenvalues: Lanczos' iteration in the space of what sums to zero, on the matrix that is never formed, from a
 * start drawn from the generator. It is the power iteration that remembers: where that needs some 1 / gap steps, a
 * hundred million on a ring of 10,000, this needs about as many as the graph is wide. Vectors are not made orthogonal
 * to all before them, which costs steps and brings copies of eigenvalues, but no wrong ones. */

#define WEFT_DOCTOR_EXACT 1e-12   /* what an eigenvalue is wanted to, and the least gap that is one */
#define WEFT_DOCTOR_STEPS 65536u  /* of the iteration, at most; 4 a worker in small graphs */
#define WEFT_DOCTOR_CARELESS 1e-9 /* errors of the host's own weights that are taken for roundings */

typedef struct weft_doctor {
    const weft_graph *graph;
    const weft_mixing *mixing;
    const unsigned char *here; /* or NULL */
    uint32_t workers, present, limit, steps;
    double *share, *own;         /* of each worker: what it can give, what it keeps */
    double *before, *now, *next; /* Lanczos' vectors */
    double *diagonal, *beside;   /* of the small matrix: beside[k] between k and k + 1 */
    uint32_t *label, *distance, *queue;
} weft_doctor;

WEFT_FN const char *weft_doctor_text(weft_graph_verdict verdict) {
#ifdef WEFT_NO_STRINGS
    (void)verdict;
    return "";
#else
    switch (verdict) {
    case WEFT_GRAPH_SOUND: return "sound: symmetric, doubly stochastic, connected, and it mixes in good time";
    case WEFT_GRAPH_NOT_FINITE: return "bad: a weight is not finite";
    case WEFT_GRAPH_NEGATIVE: return "bad: a weight is negative";
    case WEFT_GRAPH_NOT_SYMMETRIC: return "bad: two neighbours weigh each other differently, so the mean may move";
    case WEFT_GRAPH_ROW_SUM: return "bad: a worker's weights do not add up to 1, so the mean moves";
    case WEFT_GRAPH_PARTED: return "bad: not connected, the parts never hear of each other";
    case WEFT_GRAPH_SWINGS:
        return "bad: two halves exchange their values for ever; give workers a weight on themselves";
    case WEFT_GRAPH_STANDS_STILL: return "bad: no spectral gap, weights of 0 part the graph";
    case WEFT_GRAPH_SLOW: return "poor: news takes very many rounds to get around; add edges far across";
    case WEFT_GRAPH_HUB: return "poor: one worker has far more neighbours than most; it carries their traffic";
    case WEFT_GRAPH_THREAD: return "poor: a worker hangs on one edge, whose loss parts it from all";
    }
    return "unknown verdict";
#endif
}

WEFT_FN int weft_doctor_here(const weft_doctor *d, uint32_t i) {
    return !d->here || d->here[i];
}

/* Of neighbours that are both there. */
WEFT_FN double weft_doctor_weight(const weft_doctor *d, uint32_t i, uint32_t j) {
    if (d->mixing && d->mixing->rule == WEFT_OWN_WEIGHTS) return d->mixing->weight(d->mixing->ctx, i, j);
    return d->share[i] < d->share[j] ? d->share[i] : d->share[j];
}

/* Rows, symmetry, degrees. */
WEFT_FN void weft_doctor_weights(weft_doctor *d, weft_doctor_report *r) {
    const weft_graph *g = d->graph;
    int own = d->mixing && d->mixing->rule == WEFT_OWN_WEIGHTS, finite = 1;
    uint32_t i, k, worst_symmetry = WEFT_NO_RANK, worst_row = WEFT_NO_RANK, worst_weight = WEFT_NO_RANK;
    uint64_t first = 1;
    for (i = 0; i < d->workers; i++) d->share[i] = own ? 0 : weft_graph_share(g, d->mixing, i);
    for (i = 0; i < d->workers; i++) {
        weft_graph_sum sum = {0, 0};
        double w, error;
        uint32_t degree = 0;
        if (!weft_doctor_here(d, i)) continue;
        for (k = g->offset[i];; k++) {
            uint32_t j = k < g->offset[i + 1] ? g->neighbour[k] : i; /* itself last, and that is the end */
            if (!weft_doctor_here(d, j)) continue;
            w = j == i && !own ? (1.0 - sum.sum) - sum.dropped : weft_doctor_weight(d, i, j);
            finite = finite && weft_is_finite(w);
            weft_graph_sum_add(&sum, w);
            if (first || w < r->least_weight) {
                r->least_weight = w;
                worst_weight = i;
                first = 0;
            }
            if (j == i) {
                d->own[i] = w;
                break;
            }
            degree++;
            if (j < i) continue;
            error = w - weft_doctor_weight(d, j, i);
            if (error < 0) error = -error;
            if (error > r->asymmetry) {
                r->asymmetry = error;
                worst_symmetry = i;
            }
        }
        error = (sum.sum - 1.0) + sum.dropped;
        if (error < 0) error = -error;
        if (error > r->row_error) {
            r->row_error = error;
            worst_row = i;
        }
        if (!d->present || degree < r->least_degree) r->least_degree = degree;
        if (!d->present || degree > r->most_degree) r->most_degree = degree;
        d->present++;
    }
    if (!finite) {
        r->verdict = WEFT_GRAPH_NOT_FINITE;
        r->asymmetry = r->row_error = r->least_weight = 0; /* nothing that can be compared */
    } else if (r->least_weight < -WEFT_DOCTOR_CARELESS) {
        r->verdict = WEFT_GRAPH_NEGATIVE;
        r->worst = worst_weight;
    } else if (r->asymmetry > WEFT_DOCTOR_CARELESS) {
        r->verdict = WEFT_GRAPH_NOT_SYMMETRIC;
        r->worst = worst_symmetry;
    } else if (r->row_error > WEFT_DOCTOR_CARELESS) {
        r->verdict = WEFT_GRAPH_ROW_SUM;
        r->worst = worst_row;
    }
}

/* The farthest worker from `from`, breadth first, and how far it is. */
WEFT_FN uint32_t weft_doctor_farthest(const weft_doctor *d, uint32_t from, uint32_t *far) {
    const weft_graph *g = d->graph;
    uint32_t i, k, head = 0, tail = 0;
    for (i = 0; i < d->workers; i++) d->distance[i] = WEFT_NO_RANK;
    d->distance[from] = 0;
    d->queue[tail++] = from;
    while (head < tail) {
        i = d->queue[head++];
        for (k = g->offset[i]; k < g->offset[i + 1]; k++) {
            uint32_t j = g->neighbour[k];
            if (!weft_doctor_here(d, j) || d->distance[j] != WEFT_NO_RANK) continue;
            d->distance[j] = d->distance[i] + 1;
            d->queue[tail++] = j;
        }
    }
    *far = d->distance[d->queue[tail - 1]];
    return d->queue[tail - 1];
}

/* Takes out of v what all workers have in common; returns the norm of the rest. */
WEFT_FN double weft_doctor_deflate(const weft_doctor *d, double *v) {
    double mean = 0, squares = 0;
    uint32_t i;
    for (i = 0; i < d->workers; i++) mean += v[i];
    mean /= d->present;
    for (i = 0; i < d->workers; i++) {
        v[i] = weft_doctor_here(d, i) ? v[i] - mean : 0;
        squares += v[i] * v[i];
    }
    return sqrt(squares);
}

/* How many eigenvalues of the small matrix of m rows lie below x (Sturm). */
WEFT_FN uint32_t weft_doctor_below(const weft_doctor *d, uint32_t m, double x) {
    uint32_t k, below = 0;
    double pivot = 1;
    for (k = 0; k < m; k++) {
        pivot = d->diagonal[k] - x - (k ? d->beside[k - 1] * d->beside[k - 1] / pivot : 0);
        if (pivot < 1e-300 && pivot > -1e-300) pivot = -1e-300;
        below += pivot < 0;
    }
    return below;
}

/* The lowest (which = 0) or highest (which = 1) eigenvalue of the small matrix, by bisection; all lie within +-2. */
WEFT_FN double weft_doctor_extreme(const weft_doctor *d, uint32_t m, int which) {
    double low = -2, high = 2, mid = 0;
    int i;
    for (i = 0; i < 64 && (mid = 0.5 * (low + high)) > low && mid < high; i++)
        if (weft_doctor_below(d, m, mid) > (which ? m - 1 : 0))
            high = mid;
        else
            low = mid;
    return mid;
}

/* How far at most the nearest eigenvalue of the large matrix is from this one of the small: the last element of its
 * unit eigenvector, times what the iteration would go on with. From the last row upwards, where elements grow. */
WEFT_FN double weft_doctor_residual(const weft_doctor *d, uint32_t m, double value) {
    double last = 1, after = 0, element = 1, squares = 1;
    uint32_t k;
    for (k = m - 1; k > 0; k--) {
        double before =
            ((value - d->diagonal[k]) * element - (k + 1 < m ? d->beside[k] * after : 0)) / d->beside[k - 1];
        after = element;
        element = before;
        squares += element * element;
        if (squares > 1e200) {
            element *= 1e-100;
            after *= 1e-100;
            last *= 1e-100;
            squares *= 1e-200;
        }
    }
    return d->beside[m - 1] * last / sqrt(squares);
}

WEFT_FN void weft_doctor_eigenvalues(weft_doctor *d, weft_doctor_report *r) {
    const weft_graph *g = d->graph;
    uint32_t i, k, m, check = 1;
    double norm, *turn;
    for (i = 0; i < d->workers; i++) {
        d->before[i] = 0;
        d->now[i] = weft_doctor_here(d, i) ? (double)(weft_graph_draw(1, i) >> 11) / 9007199254740992.0 : 0;
    }
    norm = weft_doctor_deflate(d, d->now);
    for (i = 0; i < d->workers; i++) d->now[i] /= norm;
    for (m = 1; m <= d->limit; m++) {
        double along = 0, high, low, other;
        for (i = 0; i < d->workers; i++) {
            double sum = 0;
            if (weft_doctor_here(d, i)) {
                sum = d->own[i] * d->now[i];
                for (k = g->offset[i]; k < g->offset[i + 1]; k++) {
                    uint32_t j = g->neighbour[k];
                    if (weft_doctor_here(d, j)) sum += weft_doctor_weight(d, i, j) * d->now[j];
                }
                if (m > 1) sum -= d->beside[m - 2] * d->before[i];
                along += sum * d->now[i];
            }
            d->next[i] = sum;
        }
        for (i = 0; i < d->workers; i++) d->next[i] -= along * d->now[i];
        norm = weft_doctor_deflate(d, d->next);
        d->diagonal[m - 1] = along;
        d->beside[m - 1] = norm;
        if (m == check || m == d->limit || norm < WEFT_DOCTOR_EXACT) {
            check = m + 1 + m / 8;
            high = weft_doctor_extreme(d, m, 1);
            low = weft_doctor_extreme(d, m, 0);
            r->steps = m;
            r->highest = high;
            r->lowest = low;
            r->accuracy = weft_doctor_residual(d, m, high > -low ? high : low);
            other = weft_doctor_residual(d, m, high > -low ? low : high);
            other += high > -low ? -low : high;
            if (norm < WEFT_DOCTOR_EXACT) break;
            if (r->accuracy <= WEFT_DOCTOR_EXACT && other <= (high > -low ? high : -low) + WEFT_DOCTOR_EXACT) break;
        }
        turn = d->before;
        d->before = d->now;
        d->now = d->next;
        d->next = turn;
        for (i = 0; i < d->workers; i++) d->now[i] /= norm;
    }
    r->gap = 1.0 - (r->highest > -r->lowest ? r->highest : -r->lowest);
}

/* What the weights let pass: is it one part, how wide, how fast, and how well built? */
WEFT_FN void weft_doctor_examine(weft_doctor *d, weft_doctor_report *r) {
    uint32_t i, first = 0, far = 0, near = 0;
    uint64_t ends = 0;
    weft_doctor_weights(d, r);
    r->present = d->present;
    r->parts = weft_graph_parts(d->graph, d->here, d->label);
    r->rounds = UINT64_MAX;
    while (!weft_doctor_here(d, first)) first++; /* somebody is */
    if (r->parts == 1) {
        i = weft_doctor_farthest(d, first, &near);
        weft_doctor_farthest(d, i, &far);
        r->diameter_least = far;
        r->diameter_most = 2 * (near < far ? near : far);
    }
    if (r->verdict == WEFT_GRAPH_SOUND && r->parts != 1) {
        r->verdict = WEFT_GRAPH_PARTED;
        for (i = first; i < d->workers && r->worst == WEFT_NO_RANK; i++)
            if (weft_doctor_here(d, i) && d->label[i] != first) r->worst = i;
    } else if (r->verdict == WEFT_GRAPH_SOUND) {
        r->gap = 1;
        if (d->present > 1) weft_doctor_eigenvalues(d, r);
        if (r->gap <= WEFT_DOCTOR_EXACT) {
            r->verdict = -r->lowest > r->highest ? WEFT_GRAPH_SWINGS : WEFT_GRAPH_STANDS_STILL;
            r->gap = 0;
        }
        r->rounds = weft_graph_rounds(r->gap, 1e-3);
    }
    if (r->verdict == WEFT_GRAPH_SOUND && (r->rounds > WEFT_DOCTOR_SLOW || r->accuracy > r->gap))
        r->verdict = WEFT_GRAPH_SLOW;
    for (i = 0; i < d->workers; i++) ends += weft_graph_degree_among(d->graph, d->here, i);
    if (r->verdict == WEFT_GRAPH_SOUND && (uint64_t)r->most_degree * d->present > WEFT_DOCTOR_HUB * ends)
        r->verdict = WEFT_GRAPH_HUB;
    if (r->verdict == WEFT_GRAPH_SOUND && r->least_degree == 1 && d->present > 2) r->verdict = WEFT_GRAPH_THREAD;
    for (i = 0; i < d->workers && r->worst == WEFT_NO_RANK; i++) {
        uint32_t degree = weft_graph_degree_among(d->graph, d->here, i);
        if (!weft_doctor_here(d, i)) continue;
        if ((r->verdict == WEFT_GRAPH_HUB && degree == r->most_degree) ||
            (r->verdict == WEFT_GRAPH_THREAD && degree == 1))
            r->worst = i;
    }
    r->text = weft_doctor_text(r->verdict);
}

/* With memory NULL: only adds up. */
WEFT_FN size_t weft_doctor_lay_out(weft_doctor *d, void *memory) {
    weft_layout l;
    memset(&l, 0, sizeof l);
    l.base = memory ? weft_align_memory(memory) : NULL;
    d->share = (double *)weft_layout_take(&l, "", d->workers, sizeof(double));
    d->own = (double *)weft_layout_take(&l, "", d->workers, sizeof(double));
    d->before = (double *)weft_layout_take(&l, "", d->workers, sizeof(double));
    d->now = (double *)weft_layout_take(&l, "", d->workers, sizeof(double));
    d->next = (double *)weft_layout_take(&l, "", d->workers, sizeof(double));
    d->diagonal = (double *)weft_layout_take(&l, "", d->limit, sizeof(double));
    d->beside = (double *)weft_layout_take(&l, "", d->limit, sizeof(double));
    d->label = (uint32_t *)weft_layout_take(&l, "", d->workers, sizeof(uint32_t));
    d->distance = (uint32_t *)weft_layout_take(&l, "", d->workers, sizeof(uint32_t));
    d->queue = (uint32_t *)weft_layout_take(&l, "", d->workers, sizeof(uint32_t));
    return weft_layout_total(&l);
}

/* See the API above. */
WEFT_FN weft_status weft_graph_doctor(const weft_graph *graph, const weft_mixing *mixing, void *memory, size_t bytes,
                                      weft_doctor_report *report) {
    weft_doctor d;
    if (!report) return WEFT_ERR_ARGUMENT;
    memset(report, 0, sizeof *report);
    report->text = "";
    report->worst = WEFT_NO_RANK;
    report->detail = weft_detail_none();
    if (weft_graph_check(graph, graph ? graph->workers : 0, &report->detail) != WEFT_OK) return report->detail.status;
    if (mixing && (uint32_t)mixing->rule > WEFT_OWN_WEIGHTS)
        return weft_refuse(&report->detail, WEFT_ERR_ARGUMENT, WEFT_TEXT("mixing.rule"), WEFT_OWN_WEIGHTS,
                           (uint64_t)mixing->rule);
    if (mixing && mixing->present) {
        size_t i = 0;
        while (i < graph->workers && !mixing->present[i]) i++;
        if (i == graph->workers)
            return weft_refuse(&report->detail, WEFT_ERR_ARGUMENT, WEFT_TEXT("mixing.present (nobody)"), 1, 0);
    }
    if (mixing && mixing->rule == WEFT_OWN_WEIGHTS && !mixing->weight)
        return weft_refuse(&report->detail, WEFT_ERR_ARGUMENT, WEFT_TEXT("mixing.weight"), 1, 0);
    memset(&d, 0, sizeof d);
    d.graph = graph;
    d.mixing = mixing;
    d.here = mixing ? mixing->present : NULL;
    d.workers = graph->workers;
    d.limit = graph->workers < WEFT_DOCTOR_STEPS / 4 ? 4 * graph->workers : WEFT_DOCTOR_STEPS;
    report->bytes = weft_doctor_lay_out(&d, memory);
    if (!report->bytes)
        return weft_refuse(&report->detail, WEFT_ERR_OVERFLOW, WEFT_TEXT("memory"), SIZE_MAX, graph->workers);
    if (!memory && !bytes) return WEFT_OK;
    if (!memory) return weft_refuse(&report->detail, WEFT_ERR_ARGUMENT, WEFT_TEXT("memory"), report->bytes, 0);
    if (bytes < report->bytes)
        return weft_refuse(&report->detail, WEFT_ERR_MEMORY, WEFT_TEXT("bytes"), report->bytes, bytes);
    weft_doctor_examine(&d, report);
    return WEFT_OK;
}

#endif /* WEFT_GRAPH_IMPLEMENTATION */

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

/* ---- src/weft/codec.h: implementation -------------------------------------------------------- */
#ifndef WEFT_CODEC_IMPLEMENTATION
#define WEFT_CODEC_IMPLEMENTATION

/* ---- the kernels of codecs ---- */

/* f32 only, at most WEFT_GROUP elements a call. `t` has room for WEFT_GROUP. */
typedef struct weft_codec_set {
    /* t = z (form 0), z + kept (1) or z - kept (2). Returns the bits of the largest magnitude of t, NaN the largest. */
    uint32_t (*gather)(size_t n, const void *z, const void *kept, int form, float *t);
    /* code[i] = floor(t[i] * places / 2^24 + u), the first product less than 127 * 2^24, u drawn from `key` and i in
     * steps of 2^-24; t is zero from n on, code has room for n rounded up to 16. form 1: kept = t - code * step; form
     * 2: kept = kept + code * step */
    void (*quantise)(size_t n, const float *t, float step, float places, uint64_t key, int form, void *kept,
                     uint8_t *code);
    /* add 0: out = code * step; else out = out + w * (code * step) */
    void (*expand)(size_t n, const uint8_t *code, float step, float w, int add, void *out);
    /* Which magnitudes' bits are greater than `least` and not greater than `most`: bit i % 32 of word i / 32; the rest
     * of the last word is zero. Returns whether there are any. */
    uint32_t (*between)(size_t n, const float *t, uint32_t least, uint32_t most, uint32_t *word);
} weft_codec_set;

typedef struct weft_codec_kernels {
    const weft_kernels *core; /* of the same instruction set */
    weft_codec_set f32;
} weft_codec_kernels;

/* Random bits: i, multiplied, plus one half of the key; two rounds of shift and multiply, the other half of
 * the key between them. */
#define WEFT_DRAW_STEP 0x9E3779B9u
#define WEFT_DRAW_MUL1 0x21F0AAADu
#define WEFT_DRAW_MUL2 0xD35A2D97u

/* Draw i of a block whose key this is: 32 bits, of which the upper 24 are used. */
WEFT_FN uint32_t weft_draw(uint64_t key, uint32_t i) {
    uint32_t x = i * WEFT_DRAW_STEP + (uint32_t)(key & 0xFFFFFFFFu);
    x = (x ^ x >> 16) * WEFT_DRAW_MUL1 + (uint32_t)(key >> 32);
    x = (x ^ x >> 15) * WEFT_DRAW_MUL2;
    return x ^ x >> 15;
}

/* The indices of lanes, for those who draw several numbers at a time. */
static WEFT_UNUSED const uint16_t weft_draw_lanes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

#define WEFT_CODEC_SET                                                                                                 \
    {                                                                                                                  \
        WEFT_SET_NAME(f32, codec_gather), WEFT_SET_NAME(f32, codec_quantise), WEFT_SET_NAME(f32, codec_expand),        \
            WEFT_SET_NAME(f32, codec_between)                                                                          \
    }
#define WEFT_CODEC_TABLES(set, isa, fence)                                                                             \
    static WEFT_UNUSED const weft_codec_kernels weft_codec_kernels_##set[2] = {                                        \
        {&weft_kernels_##set[0], WEFT_CODEC_SET}, {&weft_kernels_##set[1], WEFT_CODEC_SET}};

#define WEFT_FAMILY WEFT_CODEC_FAMILY
#define WEFT_FAMILY_TABLES WEFT_CODEC_TABLES
#include SADDLE_HEADER

/* As weft_kernels_select. */
WEFT_FN const weft_codec_kernels *weft_codec_kernels_select(weft_isa isa, size_t bytes) {
    const weft_kernels *core = weft_kernels_select(isa, bytes);
    if (!core) return NULL;
    WEFT_SELECT(weft_codec_kernels, core->isa, core->stream)
}

/* ---- values ---- */

/* Bits of doubles and floats without their sign grow with the magnitude. */
#define WEFT_CODEC_F32_INFINITY UINT64_C(0x7F800000)
#define WEFT_CODEC_F64_INFINITY UINT64_C(0x7FF0000000000000)
#define WEFT_CODEC_F32_MAX 3.4028234663852886e38

/* A block on its way: f is in use, or where `wide` d. */
typedef union weft_codec_values {
    float f[WEFT_GROUP];
    double d[WEFT_GROUP];
} weft_codec_values;

/* On the stack they begin with a cache line, where the compiler can be told so: vectors of 64 bytes that straddle two
 * take twice as long. */
#if defined __GNUC__ || defined __clang__
#define WEFT_CODEC_SCRATCH __attribute__((aligned(64))) weft_codec_values
#elif defined _MSC_VER
#define WEFT_CODEC_SCRATCH __declspec(align(64)) weft_codec_values
#else
#define WEFT_CODEC_SCRATCH weft_codec_values
#endif

WEFT_FN size_t weft_codec_value_bytes(weft_dtype t) {
    return t == WEFT_F64 ? 8 : 4;
}

/* A value of `each` bytes, little-endian; doubles hold both. */
WEFT_FN void weft_codec_put(unsigned char *p, size_t each, double v) {
    if (each == 8)
        weft_put64(p, weft_double_bits(v));
    else
        weft_put32(p, weft_f32_bits((float)v));
}

WEFT_FN double weft_codec_get(const unsigned char *p, size_t each) {
    return each == 8 ? weft_bits_f64(weft_get64(p)) : (double)weft_bits_f32(weft_get32(p));
}

WEFT_FN uint64_t weft_codec_magnitude(const weft_codec_values *t, int wide, size_t i) {
    return wide ? weft_double_bits(t->d[i]) & UINT64_C(0x7FFFFFFFFFFFFFFF)
                : (uint64_t)(weft_f32_bits(t->f[i]) & 0x7FFFFFFFu);
}

WEFT_FN double weft_codec_value(const weft_codec_values *t, int wide, size_t i) {
    return wide ? t->d[i] : (double)t->f[i];
}

/* t = z, z + kept or z - kept for m elements from `at`; from m on it is zero. What is not finite is left out and
 * counted. Returns the bits of the largest magnitude. */
WEFT_FN uint64_t weft_codec_gather(const weft_codec_kernels *k, const weft_codec_job *j, size_t at, size_t m,
                                   weft_codec_values *t, uint64_t *nonfinite) {
    const int wide = j->dtype == WEFT_F64, form = (int)j->form;
    const uint64_t infinity = wide ? WEFT_CODEC_F64_INFINITY : WEFT_CODEC_F32_INFINITY;
    const unsigned char *z = (const unsigned char *)j->data + at * weft_dtype_bytes(j->dtype);
    const unsigned char *kept = j->kept ? (const unsigned char *)j->kept + at * weft_codec_value_bytes(j->dtype) : NULL;
    uint64_t most = 0, bits;
    size_t i;
    if (wide) {
        memcpy(t->d, z, m * sizeof(double));
        if (m < WEFT_GROUP) memset(t->d + m, 0, (WEFT_GROUP - m) * sizeof(double));
        if (form) k->core->f64.axpy(m, form == WEFT_CODEC_FEEDBACK ? 1.0 : -1.0, kept, t->d);
        for (i = 0; i < m; i++) {
            bits = weft_codec_magnitude(t, wide, i);
            if (bits > most) most = bits;
        }
    } else {
        if (m < WEFT_GROUP) memset(t->f + m, 0, (WEFT_GROUP - m) * sizeof(float));
        if (j->dtype == WEFT_BF16) k->core->bf16_to_f32(m, (const uint16_t *)(const void *)z, t->f);
        if (j->dtype == WEFT_F16) k->core->f16_to_f32(m, (const uint16_t *)(const void *)z, t->f);
        most = k->f32.gather(m, j->dtype == WEFT_F32 ? (const void *)z : t->f, kept, form, t->f);
    }
    if (most < infinity) return most;
    for (most = 0, i = 0; i < m; i++) {
        if (weft_codec_magnitude(t, wide, i) >= infinity) {
            ++*nonfinite;
            if (wide)
                t->d[i] = 0;
            else
                t->f[i] = 0;
            if (form == WEFT_CODEC_FEEDBACK) {
                memcpy(wide ? (void *)&t->d[i] : (void *)&t->f[i], kept + i * weft_codec_value_bytes(j->dtype),
                       weft_codec_value_bytes(j->dtype));
                if (weft_codec_magnitude(t, wide, i) >= infinity) { /* nothing sound has been kept */
                    if (wide)
                        t->d[i] = 0;
                    else
                        t->f[i] = 0;
                }
            }
        }
        bits = weft_codec_magnitude(t, wide, i);
        if (bits > most) most = bits;
    }
    return most;
}

/* kept = t - q or kept + q. Spoils t. */
WEFT_FN void weft_codec_keep(const weft_codec_kernels *k, const weft_codec_job *j, size_t at, size_t m,
                             weft_codec_values *t, const weft_codec_values *q) {
    const int wide = j->dtype == WEFT_F64;
    const size_t each = weft_codec_value_bytes(j->dtype);
    void *kept = j->form ? (unsigned char *)j->kept + at * each : NULL;
    const weft_kernel_set *s = wide ? &k->core->f64 : &k->core->f32;
    if (j->form == WEFT_CODEC_FEEDBACK) {
        s->axpy(m, -1.0, q, t);
        memcpy(kept, t, m * each);
    } else if (j->form == WEFT_CODEC_DIFFERENCE)
        s->axpy(m, 1.0, q, kept);
}

/* The key of a block of the tensor. */
WEFT_FN uint64_t weft_codec_block_key(uint64_t key, size_t at) {
    return weft_mix(key + WEFT_HASH_KEY * ((uint64_t)(at / WEFT_CODEC_BLOCK) + 1));
}

/* ---- Q8 and Q4 ----
 *
 * A block: the step as f32, then codes. Q8: a signed byte each. Q4: signed halves of bytes, of m elements the first
 * (m + 1) / 2 in the lower, the others in the upper ones. A step is so much larger than the largest magnitude / s that
 * t / step rounds to less than s. */
#define WEFT_CODEC_NUDGE (1.0 / 2097152.0) /* 2^-21 */

typedef struct weft_codec_step {
    float step, places; /* places: 2^24 / step */
} weft_codec_step;

WEFT_FN weft_codec_step weft_codec_step_of(float most, double s) {
    weft_codec_step r;
    const double step = (double)most * (1.0 + WEFT_CODEC_NUDGE) / s, least = 7.888609052210118e-31; /* 2^-100 */
    r.step = r.places = 0.0f;
    if (most <= 0) return r;
    if (step < least) {
        r.step = (float)least;
        r.places = (float)(16777216.0 / least);
        return r;
    }
    /* with this limit no code of eight bits stands for infinity */
    r.step = (float)(step < WEFT_CODEC_F32_MAX / 128.0 ? step : WEFT_CODEC_F32_MAX / 128.0);
    r.places = (float)(16777216.0 * s * (1.0 - WEFT_CODEC_NUDGE) / (double)most);
    return r;
}

#define WEFT_CODEC_LOW UINT64_C(0x0F0F0F0F0F0F0F0F)

/* Halves of bytes as signed bytes, eight at a time. */
WEFT_FN uint64_t weft_codec_halves(uint64_t v) {
    return v | (v & UINT64_C(0x0808080808080808)) * 0x1Eu;
}

/* Code has room for a whole block, and zeros from m on. */
WEFT_FN void weft_codec_pack4(size_t m, const uint8_t *code, unsigned char *p) {
    const size_t half = (m + 1) / 2;
    size_t i;
    if (m < WEFT_CODEC_BLOCK) {
        for (i = 0; i < half; i++) p[i] = (unsigned char)((code[i] & 15u) | (code[i + half] & 15u) << 4);
        return;
    }
    for (i = 0; i < WEFT_CODEC_BLOCK / 2; i += 8) {
        const uint64_t low = weft_load_u64(code + i), high = weft_load_u64(code + i + WEFT_CODEC_BLOCK / 2);
        const uint64_t v = (low & WEFT_CODEC_LOW) | (high & WEFT_CODEC_LOW) << 4;
        memcpy(p + i, &v, sizeof v);
    }
}

WEFT_FN void weft_codec_unpack4(size_t m, const unsigned char *p, uint8_t *code) {
    const size_t half = (m + 1) / 2;
    size_t i;
    if (m < WEFT_CODEC_BLOCK) {
        for (i = 0; i < m; i++) {
            const unsigned v = i < half ? p[i] & 15u : (unsigned)p[i - half] >> 4;
            code[i] = (uint8_t)((v ^ 8u) - 8u);
        }
        return;
    }
    for (i = 0; i < WEFT_CODEC_BLOCK / 2; i += 8) {
        const uint64_t v = weft_load_u64(p + i);
        const uint64_t low = weft_codec_halves(v & WEFT_CODEC_LOW), high = weft_codec_halves(v >> 4 & WEFT_CODEC_LOW);
        memcpy(code + i, &low, sizeof low);
        memcpy(code + i + WEFT_CODEC_BLOCK / 2, &high, sizeof high);
    }
}

WEFT_FN size_t weft_codec_quantised_bytes(weft_codec_kind kind, size_t m) {
    return 4 + (kind == WEFT_CODEC_Q8 ? m : (m + 1) / 2);
}

/* Codes a block, and brings kept up to date. */
WEFT_FN void weft_codec_quantise(const weft_codec_kernels *k, const weft_codec_job *j, size_t at, size_t m,
                                 weft_codec_values *t, uint64_t most, unsigned char *p) {
    const int wide = j->dtype == WEFT_F64, q8 = j->codec->kind == WEFT_CODEC_Q8;
    const uint64_t key = weft_codec_block_key(j->key, at);
    uint8_t code[WEFT_GROUP], *to = q8 && m == WEFT_GROUP ? p + 4 : code;
    WEFT_CODEC_SCRATCH q;
    weft_codec_step s;
    size_t i;
    if (wide) {
        for (i = 0; i < WEFT_GROUP; i++) {
            const double v = t->d[i], limit = WEFT_CODEC_F32_MAX;
            q.f[i] = (float)(v > limit ? limit : v < -limit ? -limit : v);
        }
        most = k->f32.gather(m, q.f, NULL, 0, q.f);
    }
    s = weft_codec_step_of(weft_bits_f32((uint32_t)most), q8 ? 127.0 : 7.0);
    weft_put32(p, weft_f32_bits(s.step));
    k->f32.quantise(m, wide ? q.f : t->f, s.step, s.places, key, wide ? 0 : (int)j->form,
                    wide || !j->form ? NULL : (float *)j->kept + at, to);
    if (!q8) {
        if (m < WEFT_GROUP) memset(code + m, 0, WEFT_GROUP - m);
        weft_codec_pack4(m, code, p + 4);
    } else if (to == code)
        memcpy(p + 4, code, m);
    if (!wide || !j->form) return;
    for (i = 0; i < m; i++) q.d[i] = 0;
    {
        float f[WEFT_GROUP];
        k->f32.expand(m, to, s.step, 1.0f, 0, f);
        for (i = 0; i < m; i++) q.d[i] = (double)f[i];
    }
    weft_codec_keep(k, j, at, m, t, &q);
}

/* ---- bits: fields of up to 17 bits, the lowest first ---- */
typedef struct weft_codec_bits {
    uint64_t word;
    unsigned held;
    unsigned char *to;
    const unsigned char *from, *end;
} weft_codec_bits;

WEFT_FN void weft_codec_write_bits(weft_codec_bits *b, uint32_t v, unsigned bits) {
    b->word |= (uint64_t)v << b->held;
    for (b->held += bits; b->held >= 8; b->held -= 8, b->word >>= 8) *b->to++ = (unsigned char)(b->word & 0xFFu);
}

WEFT_FN uint32_t weft_codec_read_bits(weft_codec_bits *b, unsigned bits) {
    uint32_t v;
    for (; b->held < bits; b->held += 8) b->word |= (uint64_t)(b->from < b->end ? *b->from++ : 0u) << b->held;
    v = (uint32_t)(b->word & ((UINT64_C(1) << bits) - 1));
    b->word >>= bits;
    b->held -= bits;
    return v;
}

/* ---- messages of the other codecs, read a block at a time ---- */
typedef struct weft_codec_reader {
    const weft_codec *codec;
    weft_dtype dtype;
    size_t count, bytes; /* of the chunk, of the message */
    const unsigned char *p;
    double step;  /* QSGD, SIGN */
    size_t pairs; /* TOPK */
    int zeros;    /* SIGN */
    size_t next;  /* TOPK: the pair to come */
} weft_codec_reader;

/* q = C(t) for the m elements from `at`, a multiple of the block, of a message that has been checked; blocks in
 * ascending order. */
WEFT_FN void weft_codec_read(const weft_codec_kernels *k, weft_codec_reader *r, size_t at, size_t m,
                             weft_codec_values *q) {
    const int wide = r->dtype == WEFT_F64;
    const size_t each = wide ? 8 : 4;
    const unsigned char *p = r->p;
    size_t i;
    switch (r->codec->kind) {
    case WEFT_CODEC_IDENTITY:
        memcpy(q, p + at * each, m * each);
        if (weft_big_endian()) weft_swap((unsigned char *)q, m * each, each);
        return;
    case WEFT_CODEC_BF16:
    case WEFT_CODEC_F16: {
        uint16_t half[WEFT_GROUP];
        memcpy(half, p + at * 2, m * 2);
        if (weft_big_endian()) weft_swap((unsigned char *)half, m * 2, 2);
        (r->codec->kind == WEFT_CODEC_BF16 ? k->core->bf16_to_f32 : k->core->f16_to_f32)(m, half, q->f);
        break;
    }
    case WEFT_CODEC_Q8:
    case WEFT_CODEC_Q4: {
        uint8_t code[WEFT_GROUP];
        p += at / WEFT_CODEC_BLOCK * weft_codec_quantised_bytes(r->codec->kind, WEFT_CODEC_BLOCK);
        if (r->codec->kind == WEFT_CODEC_Q8)
            memcpy(code, p + 4, m);
        else
            weft_codec_unpack4(m, p + 4, code);
        k->f32.expand(m, code, weft_bits_f32(weft_get32(p)), 1.0f, 0, q->f);
        break;
    }
    case WEFT_CODEC_QSGD: {
        weft_codec_bits b;
        const unsigned bits = r->codec->bits;
        memset(&b, 0, sizeof b);
        b.from = p + each + at / 8 * (bits + 1);
        b.end = p + r->bytes;
        for (i = 0; i < m; i++) {
            const uint32_t v = weft_codec_read_bits(&b, bits + 1);
            const double level = v & 1u ? -(double)(v >> 1) : (double)(v >> 1);
            if (wide)
                q->d[i] = level * r->step;
            else
                q->f[i] = (float)level * (float)r->step;
        }
        return;
    }
    case WEFT_CODEC_SIGN: {
        const unsigned char *sign = p + each + 4, *zero = sign + (r->count + 7) / 8;
        double value[2];
        value[0] = r->step;
        value[1] = -r->step;
        for (i = 0; i < m; i++) {
            const size_t byte = (at + i) / 8;
            const unsigned bit = (unsigned)(i % 8); /* at is a multiple of 8 */
            const unsigned none = r->zeros ? zero[byte] >> bit & 1u : 0u;
            const double v = none ? 0 : value[sign[byte] >> bit & 1u];
            if (wide)
                q->d[i] = v;
            else
                q->f[i] = (float)v;
        }
        return;
    }
    case WEFT_CODEC_TOPK:
        memset(q, 0, m * each);
        for (; r->next < r->pairs; r->next++) {
            const unsigned char *pair = p + r->next * (4 + each);
            const size_t index = weft_get32(pair);
            if (index >= at + m) return;
            if (wide)
                q->d[index - at] = weft_bits_f64(weft_get64(pair + 4));
            else
                q->f[index - at] = weft_bits_f32(weft_get32(pair + 4));
        }
        return;
    }
    if (wide)
        for (i = m; i-- > 0;) q->d[i] = (double)q->f[i]; /* downwards: in place */
}

#ifdef WEFT_CUDA
#define WEFT_DEVICE_CODEC
#include SADDLE_HEADER
#undef WEFT_DEVICE_CODEC
#endif

/* ---- what must be known of the whole tensor ---- */

/* The lowest bit of v, which has one. */
WEFT_FN unsigned weft_codec_lowest(uint32_t v) {
#if defined __GNUC__ || defined __clang__
    return (unsigned)__builtin_ctz(v);
#else
    unsigned i = 0;
    while (!(v >> i & 1u)) i++;
    return i;
#endif
}

/* Which elements of a block have a magnitude whose bits are from `low` to below `high`, bit by bit; of f64, and from 0
 * on, simply all. Where values can be read in place, *f is z, and what is not finite may be among them; else t, which
 * then holds them. Returns whether there are any. */
WEFT_FN uint32_t weft_codec_sift(const weft_codec_kernels *k, const weft_codec_job *j, size_t at, size_t m,
                                 uint64_t low, uint64_t high, weft_codec_values *t, const float **f, uint32_t *word,
                                 uint64_t *nonfinite) {
    *f = t->f;
    if (j->dtype == WEFT_F32 && !j->form && m == WEFT_GROUP && low) {
        *f = (const float *)j->data + at;
    } else {
        const uint64_t most = weft_codec_gather(k, j, at, m, t, nonfinite);
        if (most < low) return 0;
        if (j->dtype == WEFT_F64 || !low) {
            memset(word, 0xFF, WEFT_GROUP / 8);
            if (m % 32) word[m / 32] = (UINT32_C(1) << m % 32) - 1u;
            return 1;
        }
    }
    return k->f32.between(m, *f, (uint32_t)(low - 1), (uint32_t)(high - 1), word);
}

/* Magnitudes have bits below this, what is not finite included. */
WEFT_FN uint64_t weft_codec_no_magnitude(weft_dtype t) {
    return t == WEFT_F64 ? UINT64_C(1) << 63 : UINT64_C(1) << 31;
}

/* The magnitude of rank `rank`, from 1, among every `stride`-th block. It is looked for from `low` to below `high` at
 * first; if it is not there, elsewhere. Then the range narrows to one of its parts, until that is one magnitude. */
#define WEFT_CODEC_BINS ((size_t)2048)

typedef struct weft_codec_place {
    uint64_t bits;
    size_t same, left; /* elements of this magnitude, and of them those up to the rank */
    uint64_t nonfinite;
} weft_codec_place;

WEFT_FN WEFT_NOINLINE weft_codec_place weft_codec_rank(const weft_codec_kernels *k, const weft_codec_job *j,
                                                       size_t stride, size_t rank, uint64_t low, uint64_t high) {
    const int wide = j->dtype == WEFT_F64;
    const uint64_t infinity = wide ? WEFT_CODEC_F64_INFINITY : WEFT_CODEC_F32_INFINITY;
    size_t histogram[WEFT_CODEC_BINS], above = 0, bin, at, step, m, i;
    uint32_t word[WEFT_GROUP / 32];
    int counted = 0; /* `above` are known to lie above the range */
    WEFT_CODEC_SCRATCH t;
    weft_codec_place r;
    const float *f;
    memset(&r, 0, sizeof r);
    for (;;) {
        uint64_t nonfinite = 0;
        unsigned shift = 0;
        while ((high - low - 1) >> shift >= WEFT_CODEC_BINS) shift++;
        memset(histogram, 0, sizeof histogram);
        if (!counted) above = 0;
        for (at = 0; at < j->count; at += step) {
            const size_t left = j->count - at;
            step = left / WEFT_GROUP < stride ? left : stride * WEFT_GROUP;
            m = left < WEFT_GROUP ? left : WEFT_GROUP;
            if (!weft_codec_sift(k, j, at, m, low, counted ? high : weft_codec_no_magnitude(j->dtype), &t, &f, word,
                                 &nonfinite))
                continue;
            for (i = 0; i < m; i += 32) {
                uint32_t w = word[i / 32];
                for (; w; w &= w - 1) {
                    const size_t e = i + weft_codec_lowest(w);
                    const uint64_t bits =
                        wide ? weft_codec_magnitude(&t, 1, e) : (uint64_t)(weft_f32_bits(f[e]) & 0x7FFFFFFFu);
                    if (bits < low) continue;
                    if (bits < high)
                        histogram[(size_t)((bits - low) >> shift)]++;
                    else if (bits >= infinity)
                        nonfinite++; /* read in place: elsewhere they have been left out */
                    else if (!counted)
                        above++;
                }
            }
        }
        if (!counted) r.nonfinite = nonfinite;
        if (above >= rank) { /* it is higher up */
            low = high;
            high = infinity;
            continue;
        }
        r.left = rank - above;
        for (bin = WEFT_CODEC_BINS; bin > 0 && histogram[bin - 1] < r.left; bin--) r.left -= histogram[bin - 1];
        if (bin == 0) {             /* it is further down */
            if (low == 0) return r; /* never, unless the data change meanwhile: this ends in any case */
            high = low;
            low = 0;
            counted = 0;
            continue;
        }
        counted = 1;
        above = rank - r.left;
        low += (uint64_t)(bin - 1) << shift;
        if (high - low > UINT64_C(1) << shift) high = low + (UINT64_C(1) << shift); /* the last part may be shorter */
        r.bits = low;
        r.same = histogram[bin - 1];
        if (shift == 0) return r;
    }
}

/* The index of the `rank`-th, from 1, element whose magnitude has these bits. */
WEFT_FN size_t weft_codec_find(const weft_codec_kernels *k, const weft_codec_job *j, uint64_t bits, size_t rank) {
    const int wide = j->dtype == WEFT_F64;
    uint32_t word[WEFT_GROUP / 32], w;
    WEFT_CODEC_SCRATCH t;
    uint64_t ignored = 0;
    const float *f;
    size_t at, m, i;
    for (at = 0; at < j->count; at += m) {
        m = j->count - at < WEFT_GROUP ? j->count - at : WEFT_GROUP;
        if (!weft_codec_sift(k, j, at, m, bits, bits + 1, &t, &f, word, &ignored)) continue;
        for (i = 0; i < m; i += 32)
            for (w = word[i / 32]; w; w &= w - 1) {
                const size_t e = i + weft_codec_lowest(w);
                const uint64_t its =
                    wide ? weft_codec_magnitude(&t, 1, e) : (uint64_t)(weft_f32_bits(f[e]) & 0x7FFFFFFFu);
                if (its == bits && --rank == 0) return at + e;
            }
    }
    return j->count;
}

/* The k-th largest magnitude. A large tensor is sampled first: where the sample has its magnitude of this rank, give or
 * take five deviations, is where one looks. A sample that misleads costs time and nothing else. */
#define WEFT_CODEC_SAMPLE ((size_t)128) /* blocks */

WEFT_FN void weft_codec_cut(const weft_codec_kernels *k, const weft_codec_job *j, weft_codec_scale *scale) {
    const uint64_t infinity = j->dtype == WEFT_F64 ? WEFT_CODEC_F64_INFINITY : WEFT_CODEC_F32_INFINITY;
    const size_t rank = weft_codec_sent(j->codec, j->count), blocks = j->count / WEFT_GROUP;
    uint64_t low = 0, high = infinity;
    weft_codec_place p;
#ifdef WEFT_CUDA
    if (k->core->gpu) {
        weft_gpu_codec_cut(k->core->gpu, j, scale);
        return;
    }
#endif
    if (blocks >= 8 * WEFT_CODEC_SAMPLE) {
        const size_t stride = blocks / WEFT_CODEC_SAMPLE;
        const double sample = (double)(blocks / stride * WEFT_GROUP);
        const double middle = (double)rank / (double)j->count * sample, slack = 5 * (sqrt(middle) + 1);
        if (middle - slack >= 1) high = weft_codec_rank(k, j, stride, (size_t)(middle - slack), 0, infinity).bits + 1;
        if (middle + slack < sample) low = weft_codec_rank(k, j, stride, (size_t)(middle + slack), 0, high).bits;
    }
    p = weft_codec_rank(k, j, 1, rank, low, high);
    scale->nonfinite = p.nonfinite;
    scale->least = p.bits;
    scale->last = p.same == p.left ? j->count : weft_codec_find(k, j, p.bits, p.left);
}

/* Sums over the tensor as the kernels' contract has them: of squares, or of magnitudes. */
WEFT_FN double weft_codec_sum(const weft_codec_kernels *k, const weft_codec_job *j, int squares, uint64_t *nonfinite) {
    const int wide = j->dtype == WEFT_F64;
    double lanes[WEFT_LANES_OF_A_BLOCK], total = 0;
    WEFT_CODEC_SCRATCH t;
    size_t at, m, i;
#ifdef WEFT_CUDA
    if (k->core->gpu) return weft_gpu_codec_sum(k->core->gpu, j, squares, nonfinite);
#endif
    memset(lanes, 0, sizeof lanes);
    for (at = 0; at < j->count;) {
        m = j->count - at < WEFT_GROUP ? j->count - at : WEFT_GROUP;
        weft_codec_gather(k, j, at, m, &t, nonfinite);
        if (squares)
            (wide ? k->core->f64.sqnorm_block : k->core->f32.sqnorm_block)(m, &t, lanes);
        else
            for (i = 0; i < m; i += WEFT_LANES_OF_A_BLOCK) { /* zeros from m on */
                size_t l;
                for (l = 0; l < WEFT_LANES_OF_A_BLOCK; l++)
                    lanes[l] += wide ? weft_bits_f64(weft_codec_magnitude(&t, 1, i + l))
                                     : (double)weft_bits_f32(weft_f32_bits(t.f[i + l]) & 0x7FFFFFFFu);
            }
        at += m;
        if (at % WEFT_BLOCK == 0 || at == j->count) {
            total += weft_lanes_sum(lanes);
            memset(lanes, 0, sizeof lanes);
        }
    }
    return total;
}

/* Can s steps be told in f32, or in f64? */
WEFT_FN int weft_codec_fits(double step, double s, int wide) {
    if (wide) return weft_is_finite(s * step);
    return step <= WEFT_CODEC_F32_MAX && weft_is_finite((double)((float)s * (float)step));
}

/* What the job says, but for the codec itself. */
WEFT_FN weft_status weft_codec_job_check(const weft_codec_job *j, weft_detail *d) {
    const size_t each = weft_dtype_bytes(j->dtype), kept = weft_codec_value_bytes(j->dtype);
    if (!j->codec) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("job.codec"), 1, 0);
    if (weft_codec_check(j->codec, d) != WEFT_OK) return d->status;
    if (!each) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("job.dtype"), WEFT_F16, (uint64_t)j->dtype);
    if ((unsigned)j->form > WEFT_CODEC_DIFFERENCE)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("job.form"), WEFT_CODEC_DIFFERENCE,
                           (uint64_t)(int64_t)j->form);
    if (weft_codec_bytes(j->codec, j->dtype, j->count, j->count) == SIZE_MAX)
        return weft_refuse(d, WEFT_ERR_OVERFLOW, WEFT_TEXT("job.count"), SIZE_MAX / 32, j->count);
    if (j->count && (!j->data || (uintptr_t)j->data % each))
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("job.data"), each, (uintptr_t)j->data);
    if (!j->form != !j->kept && (j->count || !j->form))
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("job.kept"), (uint64_t)j->form, 0);
    if ((uintptr_t)j->kept % kept)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("job.kept (alignment)"), 0, (uintptr_t)j->kept % kept);
    if (j->uniform && j->codec->kind != WEFT_CODEC_QSGD)
        return weft_refuse(d, WEFT_ERR_UNSUPPORTED, WEFT_TEXT("job.uniform"), WEFT_CODEC_QSGD,
                           (uint64_t)j->codec->kind);
    return WEFT_OK;
}

/* Looks at the whole tensor where the codec must: QSGD, TOPK, SIGN; for the others it only checks the job. Between this
 * and the last encode, data may not change, and kept only by those. Errors: WEFT_ERR_ARGUMENT, WEFT_ERR_OVERFLOW,
 * WEFT_ERR_UNSUPPORTED (uniforms for another codec than QSGD); WEFT_ERR_NONFINITE: QSGD's norm or SIGN's mean does not
 * fit the type. */
WEFT_FN weft_status weft_codec_measure(const weft_codec_kernels *k, const weft_codec_job *j, weft_codec_scale *scale,
                                       weft_detail *d) {
    const int wide = j->dtype == WEFT_F64;
    const double n = (double)j->count;
    memset(scale, 0, sizeof *scale);
    if (weft_codec_job_check(j, d) != WEFT_OK) return d->status;
    if (j->count == 0) return WEFT_OK;
    if (j->codec->kind == WEFT_CODEC_TOPK) {
        weft_codec_cut(k, j, scale);
    } else if (j->codec->kind == WEFT_CODEC_SIGN) {
        scale->step = weft_codec_sum(k, j, 0, &scale->nonfinite) / n;
    } else if (j->codec->kind == WEFT_CODEC_QSGD) {
        const double s = (double)((UINT32_C(1) << j->codec->bits) - 1u), by_norm = n / (s * s), by_root = sqrt(n) / s;
        scale->norm = sqrt(weft_codec_sum(k, j, 1, &scale->nonfinite));
        scale->step = scale->norm / s;
        if (j->codec->biased) scale->step = scale->step / (1.0 + (by_norm < by_root ? by_norm : by_root));
        if (!weft_codec_fits(scale->step, s, wide))
            return weft_refuse(d, WEFT_ERR_NONFINITE, WEFT_TEXT("norm of the tensor"), 0,
                               weft_double_bits(scale->norm));
    }
    if (!wide) scale->step = (double)(float)scale->step;
    return weft_is_finite(scale->step)
               ? WEFT_OK
               : weft_refuse(d, WEFT_ERR_NONFINITE, WEFT_TEXT("mean of the tensor"), 0, weft_double_bits(scale->step));
}

/* ---- encoding ---- */

/* out[index] = out[index] + weight * value for the pairs from p to end. */
WEFT_FN void weft_codec_add_pairs(const unsigned char *p, const unsigned char *end, size_t each, double weight,
                                  void *out) {
    for (; p < end; p += 4 + each) {
        const size_t i = weft_get32(p);
        if (each == 8)
            ((double *)out)[i] += weight * weft_bits_f64(weft_get64(p + 4));
        else
            ((float *)out)[i] += (float)weight * weft_bits_f32(weft_get32(p + 4));
    }
}

/* A block of TOPK: appends its pairs. `t` need not hold anything before; it does afterwards if something is kept. */
WEFT_FN unsigned char *weft_codec_write_pairs(const weft_codec_kernels *k, const weft_codec_job *j,
                                              const weft_codec_scale *scale, size_t first, size_t at, size_t m,
                                              weft_codec_values *t, unsigned char *p, const unsigned char *end,
                                              uint64_t *nonfinite) {
    const int wide = j->dtype == WEFT_F64;
    const size_t each = wide ? 8 : 4;
    uint32_t word[WEFT_GROUP / 32], w;
    const float *f;
    size_t i;
    if (!weft_codec_sift(k, j, first + at, m, scale->least, weft_codec_no_magnitude(j->dtype), t, &f, word, nonfinite))
        return p;
    for (i = 0; i < m; i += 32)
        for (w = word[i / 32]; w; w &= w - 1) {
            const size_t e = i + weft_codec_lowest(w);
            const uint64_t bits = wide ? weft_codec_magnitude(t, 1, e) : (uint64_t)(weft_f32_bits(f[e]) & 0x7FFFFFFFu);
            if (bits <= scale->least && (bits < scale->least || first + at + e > scale->last)) continue;
            if (!wide && bits >= WEFT_CODEC_F32_INFINITY) { /* read in place */
                ++*nonfinite;
                continue;
            }
            if ((size_t)(end - p) < 4 + each) return p; /* not if the data are those that have been measured */
            weft_put32(p, (uint32_t)(at + e));
            if (wide)
                weft_put64(p + 4, weft_double_bits(t->d[e]));
            else
                weft_put32(p + 4, weft_f32_bits(f[e]));
            p += 4 + each;
        }
    return p;
}

/* A block of the codecs that have no kernel of their own: to the message, from whose reading q comes. */
WEFT_FN unsigned char *weft_codec_write(const weft_codec_kernels *k, const weft_codec_job *j,
                                        const weft_codec_scale *scale, size_t first, size_t at, size_t m,
                                        const weft_codec_values *t, weft_codec_reader *r, unsigned char *message,
                                        unsigned char *p) {
    const int wide = j->dtype == WEFT_F64;
    const size_t each = wide ? 8 : 4, tensor_at = first + at;
    size_t i;
    switch (j->codec->kind) {
    case WEFT_CODEC_IDENTITY:
        memcpy(p, t, m * each);
        if (weft_big_endian()) weft_swap(p, m * each, each);
        return p + m * each;
    case WEFT_CODEC_BF16:
    case WEFT_CODEC_F16: {
        const int bf16 = j->codec->kind == WEFT_CODEC_BF16;
        const float limit = bf16 ? weft_bits_f32(0x7F7F0000u) : 65504.0f;
        float f[WEFT_GROUP];
        uint16_t half[WEFT_GROUP];
        if (wide)
            for (i = 0; i < m; i++) {
                const double v = t->d[i];
                f[i] = v > (double)limit ? limit : v < -(double)limit ? -limit : (float)v;
            }
        else
            for (i = 0; i < m; i++) {
                const float v = t->f[i];
                f[i] = v > limit ? limit : v < -limit ? -limit : v;
            }
        (bf16 ? k->core->f32_to_bf16 : k->core->f32_to_f16)(m, f, half);
        if (weft_big_endian()) weft_swap((unsigned char *)half, m * 2, 2);
        memcpy(p, half, m * 2);
        return p + m * 2;
    }
    case WEFT_CODEC_QSGD: {
        const unsigned bits = j->codec->bits;
        const uint32_t s = (UINT32_C(1) << bits) - 1u;
        const uint64_t key = weft_codec_block_key(j->key, tensor_at);
        weft_codec_bits b;
        memset(&b, 0, sizeof b);
        b.to = p;
        for (i = 0; i < m; i++) {
            const double v = weft_codec_value(t, wide, i);
            const double u =
                j->uniform ? j->uniform[tensor_at + i] : (double)(weft_draw(key, (uint32_t)i) >> 8) / 16777216.0;
            const double ratio = scale->norm > 0 ? ((double)s * (v < 0 ? -v : v)) / scale->norm : 0;
            uint32_t level = ratio < (double)s ? (uint32_t)ratio : s;
            if (level < s && u < ratio - (double)level) level++;
            weft_codec_write_bits(&b, level << 1 | (uint32_t)(level != 0 && v < 0), bits + 1);
        }
        if (b.held) weft_codec_write_bits(&b, 0, 8 - b.held);
        return b.to;
    }
    case WEFT_CODEC_SIGN: {
        unsigned char *sign = message + each + 4, *zero = sign + (r->count + 7) / 8;
        for (i = 0; i < m; i += 8) {
            const size_t more = m - i < 8 ? m - i : 8;
            unsigned minus = 0, none = 0;
            size_t e;
            for (e = 0; e < more; e++) {
                const uint64_t d = wide ? weft_double_bits(t->d[i + e]) : 0;
                const uint64_t bits = wide ? d >> 32 | (d << 1 != 0) : (uint64_t)weft_f32_bits(t->f[i + e]);
                minus |= (unsigned)(bits >> 31 & 1u) << e;
                none |= (unsigned)((bits & 0x7FFFFFFFu) == 0) << e;
            }
            sign[(at + i) / 8] = (unsigned char)minus;
            zero[(at + i) / 8] = (unsigned char)none;
            r->zeros |= none != 0;
        }
        return zero + (at + m + 7) / 8;
    }
    case WEFT_CODEC_TOPK:
    case WEFT_CODEC_Q8:
    case WEFT_CODEC_Q4: break; /* have functions of their own */
    }
    return p;
}

/* A range of a tensor's elements that may be a chunk? */
WEFT_FN weft_status weft_codec_range(size_t n, size_t first, size_t count, weft_detail *d) {
    if (first % WEFT_CODEC_BLOCK || first > n) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("first"), n, first);
    if (count > n - first || (count % WEFT_CODEC_BLOCK && count != n - first))
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("count"), n - first, count);
    return WEFT_OK;
}

/* Makes the message of a chunk: elements first .. first + count - 1, as above. `scale` is what measure has made of this
 * job. capacity: at least weft_codec_bytes(codec, dtype, job->count, count). *bytes: what the message has. kept is
 * brought up to date for these elements: encode each only once a round. Elements that were left out, since not finite,
 * are added to *nonfinite (may be NULL). Errors, with nothing done: WEFT_ERR_ARGUMENT, WEFT_ERR_OVERFLOW,
 * WEFT_ERR_UNSUPPORTED as measure; WEFT_ERR_CAPACITY. */
WEFT_FN weft_status weft_codec_encode(const weft_codec_kernels *k, const weft_codec_job *j,
                                      const weft_codec_scale *scale, size_t first, size_t count, void *message,
                                      size_t capacity, size_t *bytes, uint64_t *nonfinite, weft_detail *d) {
    unsigned char *p = (unsigned char *)message;
    const size_t each = weft_codec_value_bytes(j->dtype);
    WEFT_CODEC_SCRATCH t, q;
    weft_codec_reader r;
    uint64_t bad = 0, most;
    size_t at, m, need;
    *bytes = 0;
    if (weft_codec_job_check(j, d) != WEFT_OK || weft_codec_range(j->count, first, count, d) != WEFT_OK)
        return d->status;
    need = weft_codec_bytes(j->codec, j->dtype, j->count, count);
    if (capacity < need) return weft_refuse(d, WEFT_ERR_CAPACITY, WEFT_TEXT("capacity"), need, capacity);
    if (count == 0) return WEFT_OK;
    if (!message) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("message"), need, 0);
#ifdef WEFT_CUDA
    if (k->core->gpu) {
        weft_gpu_codec_encode(k->core->gpu, j, scale, first, count, p, need, bytes, nonfinite);
        return WEFT_OK;
    }
#endif
    memset(&r, 0, sizeof r);
    r.codec = j->codec;
    r.dtype = j->dtype;
    r.count = count;
    r.bytes = need;
    r.p = p;
    r.step = scale->step;
    if (j->codec->kind == WEFT_CODEC_QSGD || j->codec->kind == WEFT_CODEC_SIGN) {
        weft_codec_put(p, each, scale->step);
        p += each;
    }
    for (at = 0; at < count; at += m) {
        m = count - at < WEFT_CODEC_BLOCK ? count - at : WEFT_CODEC_BLOCK;
        if (j->codec->kind == WEFT_CODEC_TOPK) {
            unsigned char *const before = p;
            p = weft_codec_write_pairs(k, j, scale, first, at, m, &t, p, (unsigned char *)message + need, &bad);
            r.pairs = (size_t)(p - (unsigned char *)message) / (4 + each);
            if (j->form == WEFT_CODEC_DIFFERENCE) { /* as decoding does it */
                weft_codec_add_pairs(before, p, each, 1.0, (unsigned char *)j->kept + first * each);
                continue;
            }
        } else {
            most = weft_codec_gather(k, j, first + at, m, &t, &bad);
            if (j->codec->kind == WEFT_CODEC_Q8 || j->codec->kind == WEFT_CODEC_Q4) {
                weft_codec_quantise(k, j, first + at, m, &t, most, p);
                p += weft_codec_quantised_bytes(j->codec->kind, m);
                continue;
            }
            p = weft_codec_write(k, j, scale, first, at, m, &t, &r, (unsigned char *)message, p);
        }
        if (!j->form) continue;
        weft_codec_read(k, &r, at, m, &q);
        weft_codec_keep(k, j, first + at, m, &t, &q);
    }
    if (j->codec->kind == WEFT_CODEC_SIGN) {
        weft_put32((unsigned char *)message + each, (uint32_t)r.zeros);
        if (!r.zeros) p -= (count + 7) / 8;
    }
    *bytes = (size_t)(p - (unsigned char *)message);
    if (nonfinite) *nonfinite += bad;
    return WEFT_OK;
}

/* Of pairs whose magnitudes have bits of at least `low`, keeps the first `rank` by magnitude and then by index. */
WEFT_FN WEFT_NOINLINE void weft_codec_select(unsigned char *p, size_t pairs, size_t rank, uint32_t low) {
    uint32_t histogram[WEFT_CODEC_BINS], high = (uint32_t)WEFT_CODEC_F32_INFINITY, bits;
    size_t left = rank, to = 0, bin, i;
    unsigned shift;
    for (;;) { /* as weft_codec_rank does it */
        for (shift = 0; (high - low - 1) >> shift >= WEFT_CODEC_BINS;) shift++;
        memset(histogram, 0, sizeof histogram);
        for (i = 0; i < pairs; i++) {
            bits = weft_get32(p + 8 * i + 4) & 0x7FFFFFFFu;
            if (bits >= low && bits < high) histogram[(bits - low) >> shift]++;
        }
        for (bin = WEFT_CODEC_BINS; histogram[bin - 1] < left; bin--) left -= histogram[bin - 1];
        low += (uint32_t)(bin - 1) << shift;
        if (high - low > UINT32_C(1) << shift) high = low + (UINT32_C(1) << shift);
        if (shift == 0) break;
    }
    for (i = 0; i < pairs; i++) {
        bits = weft_get32(p + 8 * i + 4) & 0x7FFFFFFFu;
        if (bits < low || (bits == low && left == 0)) continue;
        if (bits == low) left--;
        memmove(p + 8 * to++, p + 8 * i, 8);
    }
}

/* TOPK in one pass: a sample says what is surely large enough; of the pairs that this makes, the best stay. 0: it
 * cannot be done, and nothing has been but to the message. */
WEFT_FN int weft_codec_topk_at_once(const weft_codec_kernels *k, const weft_codec_job *j, unsigned char *message,
                                    size_t capacity, size_t *bytes, uint64_t *nonfinite) {
    const size_t rank = weft_codec_sent(j->codec, j->count), blocks = j->count / WEFT_GROUP;
    const unsigned char *end = message + capacity / 8 * 8;
    unsigned char *p = message;
    size_t at, m, stride, i;
    double sample, middle, slack;
    WEFT_CODEC_SCRATCH t;
    weft_codec_scale floor_;
    uint64_t bad = 0;
#ifdef WEFT_CUDA
    if (k->core->gpu) return 0;
#endif
    if (j->codec->kind != WEFT_CODEC_TOPK || j->dtype == WEFT_F64 || blocks < 8 * WEFT_CODEC_SAMPLE) return 0;
    stride = blocks / (blocks / 64 < WEFT_CODEC_SAMPLE       ? WEFT_CODEC_SAMPLE
                       : blocks / 64 < 8 * WEFT_CODEC_SAMPLE ? blocks / 64
                                                             : 8 * WEFT_CODEC_SAMPLE);
    sample = (double)(blocks / stride * WEFT_GROUP);
    middle = (double)rank / (double)j->count * sample;
    slack = 5 * (sqrt(middle) + 1);
    if (middle + slack >= sample || (middle + 2 * slack) / sample * (double)j->count * 8 > (double)capacity) return 0;
    memset(&floor_, 0, sizeof floor_);
    floor_.least = weft_codec_rank(k, j, stride, (size_t)(middle + slack), 0, WEFT_CODEC_F32_INFINITY).bits;
    floor_.last = j->count;
    if (floor_.least == 0) return 0;
    for (at = 0; at < j->count; at += m) {
        m = j->count - at < WEFT_GROUP ? j->count - at : WEFT_GROUP;
        p = weft_codec_write_pairs(k, j, &floor_, 0, at, m, &t, p, end, &bad);
    }
    if (p == end || (size_t)(p - message) / 8 < rank) return 0;
    weft_codec_select(message, (size_t)(p - message) / 8, rank, (uint32_t)floor_.least);
    *bytes = rank * 8;
    *nonfinite += bad;
    if (j->form == WEFT_CODEC_FEEDBACK) {
        float *kept = (float *)j->kept;
        for (at = 0; at < j->count; at += m) {
            m = j->count - at < WEFT_GROUP ? j->count - at : WEFT_GROUP;
            weft_codec_gather(k, j, at, m, &t, &bad);
            memcpy(kept + at, t.f, m * sizeof(float));
        }
        for (i = 0; i < rank; i++) kept[weft_get32(message + 8 * i)] = 0;
    } else if (j->form == WEFT_CODEC_DIFFERENCE)
        weft_codec_add_pairs(message, message + *bytes, 4, 1.0, j->kept);
    return 1;
}

/* measure and encode of a whole tensor, in one chunk and the same bits. With room for a quarter more than
 * weft_codec_bytes says, TOPK of a large tensor reads it once instead of three times. */
WEFT_FN weft_status weft_codec_encode_tensor(const weft_codec_kernels *k, const weft_codec_job *j, void *message,
                                             size_t capacity, size_t *bytes, uint64_t *nonfinite, weft_detail *d) {
    weft_codec_scale scale;
    uint64_t bad = 0;
    *bytes = 0;
    if (weft_codec_job_check(j, d) != WEFT_OK) return d->status;
    if (message && weft_codec_topk_at_once(k, j, (unsigned char *)message, capacity, bytes, &bad)) {
        if (nonfinite) *nonfinite += bad;
        return WEFT_OK;
    }
    if (weft_codec_measure(k, j, &scale, d) != WEFT_OK) return d->status;
    return weft_codec_encode(k, j, &scale, 0, j->count, message, capacity, bytes, nonfinite, d);
}

/* ---- decoding ---- */

/* Are n values of `each` bytes, `stride` bytes apart, finite? */
WEFT_FN int weft_codec_all_finite(const unsigned char *p, size_t n, size_t each, size_t stride) {
    size_t i;
    for (i = 0; i < n; i++, p += stride)
        if (each == 8 ? (weft_get64(p) & WEFT_CODEC_F64_INFINITY) == WEFT_CODEC_F64_INFINITY
                      : (weft_get32(p) & WEFT_CODEC_F32_INFINITY) == WEFT_CODEC_F32_INFINITY)
            return 0;
    return 1;
}

/* Does the message hold what it must, and nothing else? Fills in the reader. */
WEFT_FN weft_status weft_codec_message_check(const weft_codec_kernels *k, weft_codec_reader *r, size_t n,
                                             weft_detail *d) {
    const weft_codec *c = r->codec;
    const int wide = r->dtype == WEFT_F64;
    const size_t each = wide ? 8 : 4, need = weft_codec_bytes(c, r->dtype, n, r->count);
    const unsigned char *p = r->p;
    unsigned char head[12] = {0};
    size_t i, expected = need;
    int finite = 1;
    if (r->count == 0)
        return r->bytes ? weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("message length"), 0, r->bytes) : WEFT_OK;
    if (c->kind == WEFT_CODEC_TOPK) {
        if (r->bytes > need || r->bytes % (4 + each) || (r->count == n && r->bytes != need))
            return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("message length"), need, r->bytes);
        r->pairs = r->bytes / (4 + each);
    } else {
        if (c->kind == WEFT_CODEC_SIGN) {
            if (r->bytes < each + 4)
                return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("message length"), need, r->bytes);
            weft_data_out(WEFT_GPU_OF(k->core), head, p, each + 4);
            if (weft_get32(head + each) > 1)
                return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("zeros"), 1, weft_get32(head + each));
            r->zeros = weft_get32(head + each) == 1;
            if (!r->zeros) expected -= (r->count + 7) / 8;
        }
        if (r->bytes != expected)
            return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("message length"), expected, r->bytes);
    }
    if (c->kind == WEFT_CODEC_SIGN || c->kind == WEFT_CODEC_QSGD) {
        const double s = c->kind == WEFT_CODEC_QSGD ? (double)((UINT32_C(1) << c->bits) - 1u) : 1.0;
        weft_data_out(WEFT_GPU_OF(k->core), head, p, each);
        r->step = weft_codec_get(head, each);
        finite = r->step >= 0 && weft_codec_fits(r->step, s, wide);
#ifdef WEFT_CUDA
    } else if (k->core->gpu) {
        uint32_t index = 0;
        const int astray = weft_gpu_codec_inspect(k->core->gpu, r, &finite, &index);
        if (astray) return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("index"), r->count, index);
#endif
    } else if (c->kind == WEFT_CODEC_TOPK) {
        for (i = 0; i < r->pairs; i++) {
            const uint32_t index = weft_get32(p + i * (4 + each));
            if (index >= r->count || (i && index <= weft_get32(p + (i - 1) * (4 + each))))
                return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("index"), r->count, index);
        }
        finite = weft_codec_all_finite(p + 4, r->pairs, each, 4 + each);
    } else if (c->kind == WEFT_CODEC_Q8 || c->kind == WEFT_CODEC_Q4) {
        const size_t stride = weft_codec_quantised_bytes(c->kind, WEFT_CODEC_BLOCK);
        for (i = 0; i < r->count; i += WEFT_CODEC_BLOCK) {
            const float step = weft_bits_f32(weft_get32(p + i / WEFT_CODEC_BLOCK * stride));
            if (!(step >= 0 && (double)step <= WEFT_CODEC_F32_MAX / 128.0)) finite = 0;
        }
    } else {
        WEFT_CODEC_SCRATCH q;
        for (i = 0; i < r->count && finite; i += WEFT_CODEC_BLOCK) {
            const size_t m = r->count - i < WEFT_CODEC_BLOCK ? r->count - i : WEFT_CODEC_BLOCK;
            weft_codec_read(k, r, i, m, &q);
            finite = (wide ? k->core->f64.count_nonfinite : k->core->f32.count_nonfinite)(m, &q) == 0;
        }
    }
    return finite ? WEFT_OK : weft_refuse(d, WEFT_ERR_NONFINITE, WEFT_TEXT("message"), 0, 1);
}

/* As weft_codec_add_pairs, for 16-bit types. */
WEFT_FN void weft_codec_add_narrow_pairs(const weft_codec_kernels *k, weft_dtype dtype, const unsigned char *p,
                                         const unsigned char *end, double weight, uint16_t *out) {
    for (; p < end; p += 8) {
        uint16_t *half = out + weft_get32(p);
        float v;
        (dtype == WEFT_BF16 ? k->core->bf16_to_f32 : k->core->f16_to_f32)(1, half, &v);
        v += (float)weight * weft_bits_f32(weft_get32(p + 4));
        (dtype == WEFT_BF16 ? k->core->f32_to_bf16 : k->core->f32_to_f16)(1, &v, half);
    }
}

/* Both ways to decode: add 0 stores. */
WEFT_FN weft_status weft_codec_decode_chunk(const weft_codec_kernels *k, const weft_codec *c, weft_dtype dtype,
                                            size_t n, size_t first, size_t count, const void *message, size_t bytes,
                                            int add, double weight, void *out, weft_detail *d) {
    const int wide = dtype == WEFT_F64, narrow = dtype == WEFT_BF16 || dtype == WEFT_F16;
    const int quantised = c->kind == WEFT_CODEC_Q8 || c->kind == WEFT_CODEC_Q4;
    const size_t each = weft_dtype_bytes(dtype);
    const weft_kernel_set *s = wide ? &k->core->f64 : &k->core->f32;
    weft_codec_reader r;
    WEFT_CODEC_SCRATCH q, sum;
    weft_status status;
    size_t at, m;
    if (weft_codec_check(c, d) != WEFT_OK) return d->status;
    if (!each || weft_codec_bytes(c, dtype, n, n) == SIZE_MAX)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("dtype or size"), WEFT_F16, (uint64_t)dtype);
    if (!message && bytes) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("message"), bytes, 0);
    if (!weft_is_finite(weight) || (!wide && (weight > WEFT_CODEC_F32_MAX || weight < -WEFT_CODEC_F32_MAX)))
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("weight"), 0, weft_double_bits(weight));
    if (weft_codec_range(n, first, count, d) != WEFT_OK) return d->status;
    if (count && (!out || (uintptr_t)out % each))
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("out"), each, (uintptr_t)out);
    memset(&r, 0, sizeof r);
    r.codec = c;
    r.dtype = dtype;
    r.count = count;
    r.bytes = bytes;
    r.p = (const unsigned char *)message;
    status = weft_codec_message_check(k, &r, n, d);
#ifdef WEFT_CUDA
    /* what a GPU that has failed makes of a message, says nothing of it; the object tells */
    if (k->core->gpu && k->core->gpu->failed < 0) return WEFT_OK;
#endif
    if (status != WEFT_OK) return status;
#ifdef WEFT_CUDA
    if (k->core->gpu) {
        if (count) weft_gpu_codec_decode(k->core->gpu, &r, first, add, weight, out);
        return WEFT_OK;
    }
#endif
    if (c->kind == WEFT_CODEC_TOPK && add) { /* only what was sent */
        if (narrow)
            weft_codec_add_narrow_pairs(k, dtype, r.p, r.p + bytes, weight, (uint16_t *)out + first);
        else
            weft_codec_add_pairs(r.p, r.p + bytes, each, weight, (unsigned char *)out + first * each);
        return WEFT_OK;
    }
    for (at = 0; at < count; at += m) {
        unsigned char *to = (unsigned char *)out + (first + at) * each;
        m = count - at < WEFT_CODEC_BLOCK ? count - at : WEFT_CODEC_BLOCK;
        if (quantised && dtype == WEFT_F32) {
            const unsigned char *p =
                r.p + at / WEFT_CODEC_BLOCK * weft_codec_quantised_bytes(c->kind, WEFT_CODEC_BLOCK);
            uint8_t code[WEFT_GROUP];
            if (c->kind == WEFT_CODEC_Q4) weft_codec_unpack4(m, p + 4, code);
            k->f32.expand(m, c->kind == WEFT_CODEC_Q4 ? code : p + 4, weft_bits_f32(weft_get32(p)), (float)weight, add,
                          to);
            continue;
        }
        weft_codec_read(k, &r, at, m, &q);
        if (narrow) {
            uint16_t *half = (uint16_t *)(void *)to;
            if (add) {
                (dtype == WEFT_BF16 ? k->core->bf16_to_f32 : k->core->f16_to_f32)(m, half, sum.f);
                s->axpy(m, weight, q.f, sum.f);
            } else
                memcpy(sum.f, q.f, m * sizeof(float));
            (dtype == WEFT_BF16 ? k->core->f32_to_bf16 : k->core->f32_to_f16)(m, sum.f, half);
        } else if (add)
            s->axpy(m, weight, &q, to);
        else
            memcpy(to, &q, m * each);
    }
    return WEFT_OK;
}

/* out = C(t) for a chunk of a tensor of n elements of this type: elements first .. first + count - 1 of the tensor that
 * begins at `out`. 16-bit types are rounded once. The message may be any bytes, of any alignment: an error leaves `out`
 * as it was. Errors: WEFT_ERR_ARGUMENT; WEFT_ERR_PROTOCOL (a length, an index), WEFT_ERR_NONFINITE (a value). */
WEFT_FN weft_status weft_codec_decode(const weft_codec_kernels *k, const weft_codec *c, weft_dtype dtype, size_t n,
                                      size_t first, size_t count, const void *message, size_t bytes, void *out,
                                      weft_detail *d) {
    return weft_codec_decode_chunk(k, c, dtype, n, first, count, message, bytes, 0, 1.0, out, d);
}

/* out = out + weight * C(t), in the same way: the product is rounded, then the sum, in f32 (f64 for f64 tensors). A
 * weight of 1 adds C(t) itself, as the encoder's DIFFERENCE does. Elements that TOPK has not sent are not touched. */
WEFT_FN weft_status weft_codec_decode_add(const weft_codec_kernels *k, const weft_codec *c, weft_dtype dtype, size_t n,
                                          size_t first, size_t count, const void *message, size_t bytes, double weight,
                                          void *out, weft_detail *d) {
    return weft_codec_decode_chunk(k, c, dtype, n, first, count, message, bytes, 1, weight, out, d);
}

#endif /* WEFT_CODEC_IMPLEMENTATION */

/* ---- src/saddle.h: implementation ------------------------------------------------------------ */

enum {
    SADDLE_IDLE = 0,  /* between steps */
    SADDLE_OPENING,   /* the first step: waits for neighbours */
    SADDLE_WANTING,   /* the host computes a gradient */
    SADDLE_READY,     /* has a model to be sent, once it is agreed with whom */
    SADDLE_MODELS,    /* exchanges models */
    SADDLE_GRADIENTS, /* exchanges gradients */
    SADDLE_SPOILT,    /* the result was not finite */
    SADDLE_LEAVING,
    SADDLE_LEFT,
    SADDLE_CLOSED
};
enum { SADDLE_PROPOSE = 1, SADDLE_ACCEPT = 2, SADDLE_ROUND = 3 }; /* letters */
enum { SADDLE_ROUND_BYTES = 16 };                                 /* payload: u64 step, u32 neighbours, u32 whole */
enum { SADDLE_NEWS = 2 };                                         /* a neighbour is at most one step ahead */
enum { SADDLE_FIELDS = 22 };
enum { SADDLE_ROUNDS = 64 };     /* of a pump */
#define SADDLE_MAGIC 0x73616464u /* "sadd" */
#define SADDLE_OWN UINT32_MAX    /* in place of a slot: this worker's own model */

/* A model that a neighbour has announced. */
typedef struct saddle_news {
    uint64_t step;
    uint32_t degree; /* with how many it exchanges in that step */
    int whole;       /* its public copy comes instead of a difference */
} saddle_news;

/* Where a piece of the parameters is; index: counted from 0. */
typedef struct saddle_cursor {
    size_t tensor, at, n, index;
} saddle_cursor;

/* What there is to know of one neighbour. */
typedef struct saddle_edge {
    /* agreement: the lower rank proposes the first step in which they exchange, the higher one may name a later one */
    int agreed, pending, propose_due, accept_due;
    uint64_t from;
    int first;  /* they have not exchanged since then */
    int barred; /* the host says that it is gone */
    int said;   /* good-bye */
    /* the step under way */
    int out, in; /* it gets this worker's model; its model is averaged in */
    int letter_due, whole;
    double weight;
    int made; /* there is a cross-gradient for it */
    /* what comes */
    uint32_t heard;
    saddle_news news[SADDLE_NEWS];
    int here;           /* the piece is in */
    size_t piece_bytes; /* its length */
    unsigned char *piece;
    unsigned char *store; /* a coded message: the neighbour's model, then the gradient for it */
    size_t *length;       /* of its pieces */
    size_t stored, sent;
    unsigned char *copy, *kept; /* its public copy; the error memory of its gradients */
} saddle_edge;

/* What is looked at often stands first: its offsets are short in the code of most machines. */
struct saddle {
    uint32_t magic;
    int busy, state, opened, loaded, cross, sends_gradients;
    uint32_t me;
    saddle_edge *edge; /* one a slot */
    /* buffers of the model's size; NULL where there is none */
    unsigned char *near_, *gradient, *mixed, *sum, *momentum, *kept, *self_kept;
    unsigned char *out; /* a piece that goes */
    uint64_t step;      /* completed */
    double rate, last_rate;
    saddle_cursor cursor;
    uint32_t degree; /* neighbours that the step began with */
    uint32_t slot;   /* whose model the gradient wanted is taken at */
    weft_links net;
    saddle_desc desc; /* effective */
    /* the step */
    int published;              /* this worker's model of the step under way goes, or has gone, out */
    int weighed, coded;         /* the weights are known; the piece is coded and sent */
    int short_;                 /* a neighbour was lost after the weights were known */
    int climbed, swapped, told; /* told: the host has been given what is wanted */
    unsigned char *at;          /* the buffer to differentiate at; NULL: the parameters */
    unsigned char *sending;     /* what is sent: a buffer, or NULL: the parameters */
    unsigned char *whole;       /* a piece of a public copy that goes */
    size_t out_bytes, whole_bytes, store_bytes;
    double own_weight;
    weft_codec_scale scale;
    uint32_t evaluation;
    uint64_t since_ns;
    int timing;
    const weft_codec_kernels *codecs;
    const weft_kernels *kernels;
#ifdef WEFT_CUDA
    weft_gpu gpu;
    weft_codec_kernels on_gpu; /* codecs, of its table */
#endif
    const uint32_t *neighbour;
    weft_codec gradient_codec;
    weft_detail detail;
    uint64_t fingerprint[SADDLE_FIELDS], initial_hash;
    size_t *place; /* of each tensor in a buffer of the model's size */
    weft_tensor *at_list, *into_list;
    uint32_t *group_of;
    double *norm;        /* one a group */
    double *weight;      /* one a neighbour and one */
    const void **source; /* likewise */
    saddle_stats_t stats;
};

WEFT_FN WEFT_NOINLINE weft_status saddle_fail(saddle *x, weft_status s, uint32_t peer, const char *field,
                                              uint64_t expected, uint64_t got) {
    return weft_link_say(&x->net, &x->detail, s, peer, field, expected, got);
}

WEFT_FN void saddle_phase(saddle *x, int state, const char *phase) {
    x->state = state;
    x->net.phase = phase;
    x->net.moved = 1;
}

/* ---- Arithmetic: buffers of the model's size ---- */

/* Tensor i in a buffer; NULL: the parameters. */
WEFT_FN void *saddle_at(const saddle *x, unsigned char *buffer, size_t i) {
    return buffer ? (void *)(buffer + x->place[i]) : x->desc.params.tensor[i].data;
}

/* out = a * p + b * q. Returns how many elements of it are not finite. */
WEFT_FN WEFT_NOINLINE uint64_t saddle_sum(const saddle *x, double a, unsigned char *p, double b, unsigned char *q,
                                          unsigned char *out) {
    uint64_t bad = 0;
    size_t i;
    for (i = 0; i < x->desc.params.count; i++) {
        const weft_tensor *t = &x->desc.params.tensor[i];
        const void *source[2];
        double w[2];
        source[0] = saddle_at(x, p, i);
        source[1] = saddle_at(x, q, i);
        w[0] = a;
        w[1] = b;
        bad += weft_run_weighted_sum(x->kernels, x->desc.pool, t->dtype, t->count, 2, w, source, saddle_at(x, out, i));
    }
    return bad;
}

/* What has no weight is not read. */
WEFT_FN void saddle_scale(const saddle *x, double a, unsigned char *p, unsigned char *out) {
    saddle_sum(x, a, p, 0.0, p, out);
}

WEFT_FN void saddle_copy(const saddle *x, unsigned char *from, unsigned char *to) {
    saddle_scale(x, 1.0, from, to);
}

WEFT_FN void saddle_zero(const saddle *x, unsigned char *p) {
    saddle_scale(x, 0.0, p, p);
}

WEFT_FN uint64_t saddle_nonfinite(const saddle *x, unsigned char *p) {
    uint64_t bad = 0;
    size_t i;
    for (i = 0; i < x->desc.params.count; i++) {
        const weft_tensor *t = &x->desc.params.tensor[i];
        bad += weft_run_count_nonfinite(x->kernels, x->desc.pool, t->dtype, t->count, saddle_at(x, p, i));
    }
    return bad;
}

/* The parameters and a buffer change places. */
WEFT_FN void saddle_swap(const saddle *x, unsigned char *buffer) {
    unsigned char hold[WEFT_GROUP * sizeof(double)];
    size_t i, at, m;
    for (i = 0; i < x->desc.params.count; i++) {
        const weft_tensor *t = &x->desc.params.tensor[i];
        const size_t bytes = t->count * weft_dtype_bytes(t->dtype);
        unsigned char *a = (unsigned char *)t->data, *b = (unsigned char *)saddle_at(x, buffer, i);
#ifdef WEFT_CUDA
        if (x->kernels->gpu) {
            weft_gpu_exchange(x->kernels->gpu, a, b, bytes);
            continue;
        }
#endif
        for (at = 0; at < bytes; at += m) {
            m = bytes - at < sizeof hold ? bytes - at : sizeof hold;
            memcpy(hold, a + at, m);
            memcpy(a + at, b + at, m);
            memcpy(b + at, hold, m);
        }
    }
}

/* near_ = at + rho g / (|g| + 1e-12), |g| over the whole model or by group. SAM, eq. 2; the 1e-12 as its codes have
 * it. */
WEFT_FN void saddle_climb(saddle *x) {
    const weft_tensors *p = &x->desc.params;
    size_t i;
    for (i = 0; i < x->desc.groups; i++) x->norm[i] = 0;
    for (i = 0; i < p->count; i++)
        x->norm[x->group_of[i]] += weft_run_sqnorm(x->kernels, x->desc.pool, p->tensor[i].dtype, p->tensor[i].count,
                                                   saddle_at(x, x->gradient, i));
    for (i = 0; i < p->count; i++) {
        const void *source[2];
        double w[2];
        source[0] = saddle_at(x, x->at, i);
        source[1] = saddle_at(x, x->gradient, i);
        w[0] = 1.0;
        w[1] = x->desc.rho / (sqrt(x->norm[x->group_of[i]]) + 1e-12);
        weft_run_weighted_sum(x->kernels, x->desc.pool, p->tensor[i].dtype, p->tensor[i].count, 2, w, source,
                              saddle_at(x, x->near_, i));
    }
}

/* ---- Pieces: what one bulk message holds, elements of one tensor ---- */

WEFT_FN int saddle_has_copies(const saddle_desc *d) {
    return d->feedback == SADDLE_DIFFERENCE;
}

/* How many elements of a tensor go into a piece. */
WEFT_FN size_t saddle_piece(const saddle_desc *d, const weft_codec *c, int model, const weft_tensor *t) {
    const size_t each = weft_dtype_bytes(t->dtype);
    size_t block, n;
    if (t->count <= WEFT_CODEC_BLOCK) return t->count;
    block = weft_codec_bytes(c, t->dtype, t->count, WEFT_CODEC_BLOCK);
    if (model && saddle_has_copies(d) && block < WEFT_CODEC_BLOCK * each) block = WEFT_CODEC_BLOCK * each;
    n = d->piece_bytes / block;
    return t->count / WEFT_CODEC_BLOCK < n ? t->count : n * WEFT_CODEC_BLOCK;
}

/* The next one; 0: there is none. */
WEFT_FN int saddle_next_piece(const saddle *x, int model, saddle_cursor *c) {
    const weft_tensors *p = &x->desc.params;
    size_t n;
    c->index += c->n != 0;
    c->at += c->n;
    c->n = 0;
    while (c->tensor < p->count && c->at == p->tensor[c->tensor].count) {
        c->tensor++;
        c->at = 0;
    }
    if (c->tensor == p->count) return 0;
    n = saddle_piece(&x->desc, model ? &x->desc.codec : &x->gradient_codec, model, &p->tensor[c->tensor]);
    c->n = p->tensor[c->tensor].count - c->at < n ? p->tensor[c->tensor].count - c->at : n;
    return 1;
}

/* Codes a piece of `data` (a buffer; NULL: the parameters) into `to`, and brings `kept` up to date. peer: as the host's
 * uniforms are asked for. Returns its length; SIZE_MAX: data is not finite. */
WEFT_FN size_t saddle_encode(saddle *x, const saddle_cursor *c, const weft_codec *codec, weft_codec_form form,
                             unsigned char *data, unsigned char *kept, uint32_t peer, unsigned char *to,
                             size_t capacity) {
    const weft_tensor *t = &x->desc.params.tensor[c->tensor];
    weft_detail why = weft_detail_none();
    /* a whole copy goes between the pieces of a model */
    weft_codec_scale none, *scale = codec->kind == WEFT_CODEC_IDENTITY ? &none : &x->scale;
    weft_codec_job j;
    uint64_t bad = 0;
    size_t bytes = 0;
    memset(&j, 0, sizeof j);
    j.codec = codec;
    j.form = form;
    j.dtype = t->dtype;
    j.count = t->count;
    j.data = saddle_at(x, data, c->tensor);
    j.kept = form == WEFT_CODEC_PLAIN ? NULL : saddle_at(x, kept, c->tensor);
    j.key = weft_codec_key(x->desc.seed, x->step + 1, (uint64_t)x->me << 32 | peer, c->tensor);
    if (x->desc.uniform && codec->kind == WEFT_CODEC_QSGD)
        j.uniform = x->desc.uniform(x->desc.uniform_ctx, x->step + 1, peer, c->tensor);
    if ((c->at == 0 || scale == &none) && weft_codec_measure(x->codecs, &j, scale, &why) != WEFT_OK) return SIZE_MAX;
    if (weft_codec_encode(x->codecs, &j, scale, c->at, c->n, to, capacity, &bytes, &bad, &why) != WEFT_OK || bad)
        return SIZE_MAX;
    return bytes;
}

/* out = C or out = out + weight * C, for a piece of a buffer. */
WEFT_FN weft_status saddle_decode(const saddle *x, const saddle_cursor *c, const weft_codec *codec,
                                  const unsigned char *from, size_t bytes, int add, double weight, unsigned char *out,
                                  weft_detail *d) {
    const weft_tensor *t = &x->desc.params.tensor[c->tensor];
    return weft_codec_decode_chunk(x->codecs, codec, t->dtype, t->count, c->at, c->n, from, bytes, add, weight,
                                   saddle_at(x, out, c->tensor), d);
}

/* The first element of a piece. */
WEFT_FN unsigned char *saddle_piece_at(const saddle *x, unsigned char *buffer, const saddle_cursor *c) {
    return (unsigned char *)saddle_at(x, buffer, c->tensor) +
           c->at * weft_dtype_bytes(x->desc.params.tensor[c->tensor].dtype);
}

/* ---- Agreement with a neighbour ---- */

/* The next step of which nothing has been sent. */
WEFT_FN uint64_t saddle_unsent(const saddle *x) {
    return x->step + 1 + (x->published != 0);
}

/* Both ends know from which step on they exchange. */
WEFT_FN void saddle_agree(saddle_edge *e, uint64_t from) {
    e->from = from;
    e->agreed = e->first = 1;
    e->pending = 0;
}

WEFT_FN void saddle_post(saddle *x, uint32_t k) {
    saddle_edge *e = &x->edge[k];
    while (x->net.link[k].state == WEFT_LINK_UP && !x->net.link[k].failing && !e->said &&
           weft_link_room(&x->net.link[k])) {
        unsigned char payload[SADDLE_ROUND_BYTES];
        weft_header h;
        uint32_t bytes = 8;
        memset(&h, 0, sizeof h);
        h.kind = WEFT_LINK_LETTER;
        if (e->propose_due) {
            e->from = saddle_unsent(x);
            h.step = SADDLE_PROPOSE;
            e->propose_due = 0;
        } else if (e->accept_due) {
            h.step = SADDLE_ACCEPT;
            e->accept_due = 0;
        } else if (e->letter_due) {
            h.step = SADDLE_ROUND;
            bytes = SADDLE_ROUND_BYTES;
            weft_put32(payload + 8, x->degree);
            weft_put32(payload + 12, (uint32_t)e->whole);
            e->letter_due = 0;
        } else
            return;
        weft_put64(payload, h.step == SADDLE_ROUND ? x->step + 1 : e->from);
        weft_link_post(&x->net, k, &h, payload, bytes);
    }
}

/* ---- What the links bring ---- */

/* Goes on, with all others, from a state that all have saved? (Who joins comes alone, whatever it has loaded.) */
WEFT_FN int saddle_resumes(const saddle *x) {
    return x->loaded && !x->initial_hash && !x->desc.join;
}

WEFT_FN void saddle_on_hello(void *self, uint32_t slot, weft_header *h, unsigned char *payload) {
    const saddle *x = (const saddle *)self;
    int i;
    (void)slot;
    h->round = x->initial_hash;
    h->arg0 = (uint64_t)saddle_resumes(x);
    for (i = 0; i < SADDLE_FIELDS; i++) weft_put64(payload + 8 * i, x->fingerprint[i]);
    h->payload = 8 * SADDLE_FIELDS;
}

WEFT_FN const char *saddle_field_name(int i) {
#ifdef WEFT_NO_STRINGS
    (void)i;
    return "";
#else
    static const char *const names[SADDLE_FIELDS] = {"algorithm",
                                                     "version",
                                                     "params.count",
                                                     "params (elements)",
                                                     "params (shapes and types)",
                                                     "graph.workers",
                                                     "graph.edges",
                                                     "graph (its edges)",
                                                     "order",
                                                     "momentum",
                                                     "rho",
                                                     "beta",
                                                     "mu",
                                                     "nesterov",
                                                     "weight_decay",
                                                     "gamma",
                                                     "share",
                                                     "mixing",
                                                     "codec, feedback",
                                                     "gradient_codec, gradient_feedback, compress_self",
                                                     "piece_bytes",
                                                     "variant"};
    return names[i];
#endif
}

WEFT_FN weft_status saddle_on_up(void *self, uint32_t slot, const weft_header *h, const unsigned char *payload,
                                 weft_detail *d) {
    saddle *x = (saddle *)self;
    saddle_edge *e = &x->edge[slot];
    int i;
    if (h->payload != 8 * SADDLE_FIELDS)
        return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("hello"), 8 * SADDLE_FIELDS, h->payload);
    for (i = 0; i < SADDLE_FIELDS; i++)
        if (weft_get64(payload + 8 * i) != x->fingerprint[i])
            return weft_refuse(d, WEFT_ERR_MISMATCH, saddle_field_name(i), x->fingerprint[i],
                               weft_get64(payload + 8 * i));
    if (h->round && x->initial_hash && h->round != x->initial_hash)
        return weft_refuse(d, WEFT_ERR_MISMATCH, WEFT_TEXT("hash of the initial parameters"), x->initial_hash,
                           h->round);
    if ((saddle_resumes(x) && h->round) || (x->initial_hash && h->arg0)) /* who comes anew says so: join */
        return weft_refuse(d, WEFT_ERR_MISMATCH, WEFT_TEXT("goes on from a saved state"), !x->initial_hash, h->arg0);
    weft_link_trace(&x->net, WEFT_EVENT_VIEW, x->net.link[slot].rank, x->step, 0);
    if (x->me < x->neighbour[slot]) e->pending = e->propose_due = 1;
    return WEFT_OK;
}

WEFT_FN void saddle_on_down(void *self, uint32_t slot, int left) {
    saddle *x = (saddle *)self;
    saddle_edge *e = &x->edge[slot];
    (void)left;
    if (e->in && (x->sends_gradients || x->state == SADDLE_MODELS)) { /* later nothing more is expected of it */
        x->stats.skipped++;
        x->short_ |= x->weighed;
        e->in = 0;
    }
    e->agreed = e->pending = e->propose_due = e->accept_due = e->first = e->said = 0;
    e->out = e->letter_due = e->here = 0;
    e->heard = 0;
}

WEFT_FN weft_status saddle_on_letter(void *self, uint32_t slot, const weft_header *h, const unsigned char *payload,
                                     weft_detail *d) {
    saddle *x = (saddle *)self;
    saddle_edge *e = &x->edge[slot];
    const int lower = x->me < x->neighbour[slot];
    saddle_news *n = &e->news[e->heard < SADDLE_NEWS ? e->heard : 0];
    uint64_t step;
    if (h->step < SADDLE_PROPOSE || h->step > SADDLE_ROUND || h->piece || h->round)
        return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("letter.kind"), SADDLE_ROUND, h->step);
    if (h->payload != (h->step == SADDLE_ROUND ? SADDLE_ROUND_BYTES : 8))
        return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("letter.payload"), SADDLE_ROUND_BYTES, h->payload);
    step = weft_get64(payload);
    /* what is taken over can be saved, and goes on for long */
    if (step == 0 || step > UINT64_MAX / (h->step == SADDLE_ROUND ? 8 : 16))
        return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("letter: step"), UINT64_MAX / 16, step);
    switch (h->step) {
    case SADDLE_PROPOSE:
        if (lower || e->agreed) break;
        saddle_agree(e, step > saddle_unsent(x) ? step : saddle_unsent(x));
        e->accept_due = 1;
        return WEFT_OK;
    case SADDLE_ACCEPT:
        if (!lower || !e->pending || e->propose_due || step < e->from) break;
        saddle_agree(e, step);
        return WEFT_OK;
    default:
        if (!e->agreed || step < e->from || step <= x->step || e->heard == SADDLE_NEWS ||
            (e->heard && step <= e->news[0].step))
            break;
        n->step = step;
        n->degree = weft_get32(payload + 8);
        n->whole = (int)(weft_get32(payload + 12) & 1u);
        if (n->degree == 0 || n->degree > weft_graph_degree(x->desc.graph, x->neighbour[slot]) ||
            weft_get32(payload + 12) > (saddle_has_copies(&x->desc) ? 1u : 0u))
            return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("letter: neighbours, or flags"), 0, n->degree);
        e->heard++;
        return WEFT_OK;
    }
    return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("a letter that nobody waits for"), e->from, step);
}

/* Is a model still to come that has been announced? */
WEFT_FN int saddle_is_busy(void *self, uint32_t slot) {
    return ((const saddle *)self)->edge[slot].heard != 0;
}

/* ---- What comes in bulk ---- */

WEFT_FN void saddle_forget_news(saddle_edge *e) {
    e->news[0] = e->news[1];
    e->heard--;
}

/* The most bytes that a piece comes in. */
WEFT_FN size_t saddle_capacity(const saddle *x, int model, const saddle_cursor *c) {
    const weft_tensor *t = &x->desc.params.tensor[c->tensor];
    const size_t each = weft_dtype_bytes(t->dtype);
    size_t bytes = weft_codec_bytes(model ? &x->desc.codec : &x->gradient_codec, t->dtype, t->count, c->n);
    return model && saddle_has_copies(&x->desc) && bytes < c->n * each ? c->n * each : bytes;
}

/* A piece from a neighbour: 1 when it is here. */
WEFT_FN int saddle_fetch(saddle *x, uint32_t k, int model, const saddle_cursor *c) {
    weft_link *l = &x->net.link[k];
    if (!l->in_active) {
        WEFT_GPU_SETTLE(*x->kernels); /* the last one has been read, and what is sent next has been written */
        weft_link_fetch(&x->net, k, x->edge[k].piece, saddle_capacity(x, model, c));
        l->in_shorter = 1;
        if (!l->in_active) return 0; /* the link is down */
    }
    if (weft_link_fetched(&x->net, k) != WEFT_OK) return 0;
    x->edge[k].piece_bytes = l->in_bytes;
    return 1;
}

/* ---- Gradients ---- */

WEFT_FN void saddle_ask(saddle *x, uint32_t slot, int climbed, unsigned char *at) {
    size_t i;
    x->slot = slot;
    x->told = 0;
    x->climbed = climbed;
    x->at = at;
    if (x->desc.in_place && at) {
        saddle_swap(x, at);
        x->swapped = 1;
        at = NULL;
    }
    for (i = 0; i < x->desc.params.count; i++) {
        x->at_list[i] = x->into_list[i] = x->desc.params.tensor[i];
        x->at_list[i].data = saddle_at(x, at, i);
        x->into_list[i].data = saddle_at(x, x->gradient, i);
    }
    x->stats.evaluations++;
    saddle_phase(x, SADDLE_WANTING, WEFT_TEXT("a gradient is wanted"));
}

WEFT_FN void saddle_fill_want(saddle *x, saddle_want *w) {
    x->told = 1;
    w->at.tensor = x->at_list;
    w->into.tensor = x->into_list;
    w->at.count = w->into.count = x->desc.params.count;
    w->peer = x->slot == SADDLE_OWN ? x->me : x->neighbour[x->slot];
    w->climbed = x->climbed;
    w->evaluation = x->evaluation;
}

/* Codes the gradient for a neighbour (or itself, in place) and remembers what that takes away. 0: it does not fit the
 * codec. */
WEFT_FN int saddle_code_gradient(saddle *x, uint32_t slot) {
    saddle_edge *e = slot == SADDLE_OWN ? NULL : &x->edge[slot];
    const weft_codec_form form = x->desc.gradient_feedback ? WEFT_CODEC_FEEDBACK : WEFT_CODEC_PLAIN;
    weft_detail why = weft_detail_none();
    saddle_cursor c;
    memset(&c, 0, sizeof c);
    if (e) e->stored = 0;
    while (saddle_next_piece(x, 0, &c)) {
        const size_t room = saddle_capacity(x, 0, &c);
        unsigned char *to = e ? e->store + e->stored : x->out;
        const size_t capacity = e && x->store_bytes - e->stored < room ? x->store_bytes - e->stored : room;
        size_t bytes;
        if (capacity < room) to = x->out; /* what is left of the store is enough, but not for the worst of pieces */
        bytes = saddle_encode(x, &c, &x->gradient_codec, form, x->gradient, e ? e->kept : x->self_kept,
                              e ? x->neighbour[slot] : x->me, to, room);
        if (bytes == SIZE_MAX || (e && bytes > capacity)) return 0;
        if (!e) {
            saddle_decode(x, &c, &x->gradient_codec, to, bytes, 0, 1.0, x->gradient, &why);
            continue;
        }
        if (to == x->out) weft_data_copy(WEFT_GPU_OF(x->kernels), e->store + e->stored, to, bytes);
        e->length[c.index] = bytes;
        if (x->desc.share < 1)
            saddle_decode(x, &c, &x->gradient_codec, to, bytes, 1, (1 - x->desc.share) * e->weight, x->sum, &why);
        e->stored += bytes;
    }
    return 1;
}

/* A neighbour's model as it came, into near_. */
WEFT_FN void saddle_unpack(saddle *x, uint32_t k) {
    saddle_edge *e = &x->edge[k];
    weft_detail why = weft_detail_none();
    saddle_cursor c;
    size_t at = 0;
    memset(&c, 0, sizeof c);
    for (; saddle_next_piece(x, 1, &c); at += e->length[c.index])
        saddle_decode(x, &c, &x->desc.codec, e->store + at, e->length[c.index], 0, 1.0, x->near_, &why);
}

/* ---- The step ---- */

WEFT_FN void saddle_spoil(saddle *x) {
    uint32_t k;
    for (k = 0; k < x->net.count; k++) {
        weft_link_down(&x->net, k, 0);
        x->net.link[k].bye_due = 1;
    }
    saddle_phase(x, SADDLE_SPOILT, WEFT_TEXT("diverged"));
}

/* The result is in near_. Quasi-global momentum follows it (QGM, algorithm 1, line 9). */
WEFT_FN void saddle_commit(saddle *x) {
    const saddle_desc *d = &x->desc;
    uint32_t k;
    if (d->momentum == SADDLE_MOMENTUM_GLOBAL && d->order != SADDLE_CTA) {
        saddle_sum(x, 1.0, NULL, -1.0, x->near_, x->gradient);
        saddle_sum(x, d->mu, x->momentum, (1 - d->mu) / x->rate, x->gradient, x->momentum);
    }
    saddle_copy(x, x->near_, NULL);
    x->step++;
    x->published = 0;
    x->last_rate = x->rate;
    x->stats.steps++;
    x->net.round = x->step;
    weft_link_trace(&x->net, WEFT_EVENT_COMMITTED, WEFT_NO_RANK, x->step, (uint64_t)x->degree + 1);
    for (k = 0; k < x->net.count; k++) x->edge[k].in = 0;
    saddle_phase(x, SADDLE_IDLE, WEFT_TEXT("between steps"));
}

/* g is what goes into momentum: the gradient, or the mean of those of the neighbourhood. */
WEFT_FN void saddle_adapt(saddle *x, unsigned char *g) {
    const saddle_desc *d = &x->desc;
    unsigned char *u = g, *base = d->order == SADDLE_ATC ? NULL : x->mixed;
    if (d->weight_decay > 0) saddle_sum(x, 1.0, g, d->weight_decay, d->order == SADDLE_CTA ? x->mixed : NULL, g);
    if (d->momentum == SADDLE_MOMENTUM_LOCAL) {
        saddle_sum(x, d->beta, x->momentum, 1.0, g, x->momentum);
        u = x->momentum;
    } else if (d->momentum == SADDLE_MOMENTUM_GLOBAL) {
        saddle_sum(x, d->beta, x->momentum, 1.0, g, x->near_);
        u = x->near_;
    }
    if (u != g && d->nesterov) {
        saddle_sum(x, 1.0, g, d->beta, u, x->near_);
        u = x->near_;
    }
    if (saddle_sum(x, 1.0, base, -x->rate, u, x->near_)) {
        saddle_spoil(x);
    } else if (d->order == SADDLE_ATC) {
        x->sending = x->near_;
        saddle_phase(x, SADDLE_READY, WEFT_TEXT("agreeing with neighbours"));
    } else {
        saddle_commit(x);
    }
}

WEFT_FN void saddle_begin_gradients(saddle *x);

/* The cross-gradient at the next neighbour's model from slot k on; if there is none, on with the step. */
WEFT_FN void saddle_cross(saddle *x, uint32_t k) {
    while (k < x->net.count && !x->edge[k].in) k++;
    if (k == x->net.count) {
        saddle_begin_gradients(x);
        return;
    }
    if (!saddle_has_copies(&x->desc)) saddle_unpack(x, k);
    saddle_ask(x, k, 0, saddle_has_copies(&x->desc) ? x->edge[k].copy : x->near_);
}

/* The (SAM) gradient at this slot's model is there. */
WEFT_FN void saddle_have(saddle *x) {
    if (x->slot == SADDLE_OWN) {
        if (!x->cross) {
            saddle_adapt(x, x->gradient);
            return;
        }
        if (x->desc.compress_self && !saddle_code_gradient(x, SADDLE_OWN)) {
            saddle_spoil(x);
            return;
        }
        saddle_scale(x, x->own_weight, x->gradient, x->sum);
        saddle_cross(x, 0);
        return;
    }
    if (x->edge[x->slot].in) { /* it is still there */
        if (!x->sends_gradients) {
            saddle_sum(x, 1.0, x->sum, x->edge[x->slot].weight, x->gradient, x->sum);
        } else if (!saddle_code_gradient(x, x->slot)) {
            saddle_spoil(x);
            return;
        }
        x->edge[x->slot].made = 1;
    }
    saddle_cross(x, x->slot + 1);
}

/* The host says that the gradient is there. */
WEFT_FN weft_status saddle_given(saddle *x) {
    const uint64_t bad = saddle_nonfinite(x, x->gradient);
    if (bad) {
        x->stats.nonfinite++;
        if (x->desc.guard == SADDLE_GUARD_REFUSE)
            return saddle_fail(x, WEFT_ERR_NONFINITE, x->slot == SADDLE_OWN ? x->me : x->neighbour[x->slot],
                               WEFT_TEXT("gradient"), 0, bad);
        saddle_zero(x, x->gradient);
    }
    if (x->swapped) saddle_swap(x, x->at);
    x->swapped = 0;
    x->evaluation++;
    if (x->desc.rho > 0 && !x->climbed && !bad) {
        saddle_climb(x);
        saddle_ask(x, x->slot, 1, x->near_);
    } else {
        saddle_have(x);
    }
    return WEFT_OK;
}

/* ---- Models ---- */

WEFT_FN int saddle_all_sent(saddle *x) {
    uint32_t k, left = 0;
    for (k = 0; k < x->net.count; k++) left += !weft_link_sent(&x->net, k);
    return !left;
}

WEFT_FN void saddle_begin_models(saddle *x) {
    uint64_t s = UINT64_MAX;
    uint32_t k;
    for (k = 0; k < x->net.count; k++)
        if (x->edge[k].agreed && x->edge[k].from < s) s = x->edge[k].from;
    /* all who are there wait for it in a later step: it takes over the number */
    if (s < UINT64_MAX && s > x->step + 1) x->step = s - 1;
    s = x->step + 1;
    x->degree = 0;
    x->published = 1;
    x->weighed = x->coded = x->short_ = 0;
    for (k = 0; k < x->net.count; k++) {
        saddle_edge *e = &x->edge[k];
        const weft_link *l = &x->net.link[k];
        e->made = e->here = 0;
        e->out = e->in = e->letter_due =
            l->state == WEFT_LINK_UP && !l->failing && e->agreed && e->from <= s &&
            (!x->desc.active || x->desc.active(x->desc.active_ctx, s, x->me, x->neighbour[k]));
        if (!e->out) continue;
        e->whole = e->first && s > 1 && saddle_has_copies(&x->desc);
        e->stored = 0;
        x->degree++;
    }
    memset(&x->cursor, 0, sizeof x->cursor);
    saddle_next_piece(x, 1, &x->cursor);
    saddle_phase(x, SADDLE_MODELS, WEFT_TEXT("exchanging models"));
    weft_link_trace(&x->net, WEFT_EVENT_ROUND_BEGUN, WEFT_NO_RANK, s, x->degree);
}

/* Do all neighbours take part with the same step? Then the weights are known. */
WEFT_FN int saddle_weigh(saddle *x) {
    uint32_t k;
    double rest = 1;
    if (x->weighed) return 1;
    for (k = 0; k < x->net.count; k++) {
        saddle_edge *e = &x->edge[k];
        if (!e->in) continue;
        if (!e->heard) return 0;
        if (e->news[0].step != x->step + 1)
            weft_link_fault(&x->net, k, WEFT_ERR_PROTOCOL, WEFT_TEXT("letter: step"), x->step + 1, e->news[0].step);
    }
    for (k = 0; k < x->net.count; k++) {
        saddle_edge *e = &x->edge[k];
        if (!e->in) continue;
        if (x->desc.mixing == WEFT_METROPOLIS)
            e->weight = 1.0 / (1.0 + (double)(x->degree > e->news[0].degree ? x->degree : e->news[0].degree));
        else if (x->desc.mixing == WEFT_UNIFORM)
            e->weight = 1.0 / (1.0 + (double)x->desc.graph->most_degree);
        else
            e->weight = x->desc.weight(x->desc.weight_ctx, x->me, x->neighbour[k]);
        rest -= e->weight;
    }
    x->own_weight = rest;
    x->weighed = 1;
    return 1;
}

/* Codes the piece, and sends it to all. 0: it is not finite. */
WEFT_FN int saddle_send_model(saddle *x) {
    static const weft_codec_form form[4] = {WEFT_CODEC_PLAIN, WEFT_CODEC_PLAIN, WEFT_CODEC_DIFFERENCE,
                                            WEFT_CODEC_FEEDBACK};
    const saddle_cursor *c = &x->cursor;
    uint32_t k, whole = 0;
    x->coded = 1;
    x->out_bytes = saddle_encode(x, c, &x->desc.codec, form[x->desc.feedback], x->sending, x->kept, WEFT_NO_RANK,
                                 x->out, saddle_capacity(x, 1, c));
    if (x->out_bytes == SIZE_MAX) return 0;
    for (k = 0; k < x->net.count; k++) whole += x->edge[k].out && x->edge[k].whole;
    if (whole) {
        const weft_codec plain = weft_codec_identity();
        x->whole_bytes = saddle_encode(x, c, &plain, WEFT_CODEC_PLAIN, x->kept, NULL, WEFT_NO_RANK, x->whole,
                                       saddle_capacity(x, 1, c));
        if (x->whole_bytes == SIZE_MAX) return 0;
    }
    for (k = 0; k < x->net.count; k++) {
        if (!x->edge[k].out) continue;
        if (x->edge[k].whole)
            weft_link_send(&x->net, k, x->whole, x->whole_bytes);
        else
            weft_link_send(&x->net, k, x->out, x->out_bytes);
    }
    return 1;
}

/* A neighbour's piece of its model: onto its copy, or the sum. 0: it is none. */
WEFT_FN int saddle_take_model(saddle *x, uint32_t k) {
    saddle_edge *e = &x->edge[k];
    const saddle_cursor *c = &x->cursor;
    const int copies = saddle_has_copies(&x->desc), whole = copies && e->news[0].whole;
    const weft_codec plain = weft_codec_identity();
    weft_detail why = weft_detail_none();
    weft_status s = saddle_decode(x, c, whole ? &plain : &x->desc.codec, e->piece, e->piece_bytes, !whole,
                                  copies ? 1.0 : e->weight, copies ? e->copy : x->gradient, &why);
    if (s < 0 || (x->cross && !copies && x->store_bytes - e->stored < e->piece_bytes)) {
        weft_link_fault(&x->net, k, s < 0 ? s : WEFT_ERR_PROTOCOL, s < 0 ? why.field : WEFT_TEXT("length of a model"),
                        why.expected, why.got);
        return 0;
    }
    if (!x->cross || copies) return 1;
    if (e->piece_bytes) weft_data_copy(WEFT_GPU_OF(x->kernels), e->store + e->stored, e->piece, e->piece_bytes);
    e->length[c->index] = e->piece_bytes;
    e->stored += e->piece_bytes;
    return 1;
}

/* All neighbours' pieces are here, and this worker's own: gradient = sum_j w_ij q_j - (sum_j w_ij) q_i. */
WEFT_FN void saddle_take_models(saddle *x) {
    const saddle_cursor *c = &x->cursor;
    const weft_tensor *t = &x->desc.params.tensor[c->tensor];
    const int copies = saddle_has_copies(&x->desc);
    weft_detail why = weft_detail_none();
    double given = 0;
    size_t n = 0;
    uint32_t k;
    if (!copies)
        weft_data_zero(WEFT_GPU_OF(x->kernels), saddle_piece_at(x, x->gradient, c), c->n * weft_dtype_bytes(t->dtype));
    for (k = 0; k < x->net.count; k++) {
        saddle_edge *e = &x->edge[k];
        if (!e->in || !e->here || !saddle_take_model(x, k)) continue;
        e->here = 0;
        given += e->weight;
        if (!copies) continue;
        x->source[n] = saddle_piece_at(x, e->copy, c);
        x->weight[n++] = e->weight;
    }
    if (copies) {
        x->source[n] = saddle_piece_at(x, x->kept, c);
        x->weight[n++] = -given;
        weft_run_weighted_sum(x->kernels, x->desc.pool, t->dtype, c->n, n, x->weight, x->source,
                              saddle_piece_at(x, x->gradient, c));
    } else {
        saddle_decode(x, c, &x->desc.codec, x->out, x->out_bytes, 1, -given, x->gradient, &why);
    }
}

/* What has been exchanged makes the mixed model. */
WEFT_FN void saddle_combine(saddle *x, uint32_t partners) {
    const saddle_desc *d = &x->desc;
    unsigned char *to = d->order == SADDLE_CTA || d->order == SADDLE_ATC ? x->near_ : x->mixed;
    uint64_t bad = 0;
    if (partners)
        bad = saddle_sum(x, 1.0, x->sending, d->gamma, x->gradient, to);
    else if (to != x->sending)
        saddle_copy(x, x->sending, to);
    if (bad) {
        saddle_spoil(x);
        return;
    }
    if (d->order == SADDLE_ATC) {
        saddle_commit(x);
        return;
    }
    if (d->order == SADDLE_CTA) {
        if (!x->stats.steps) { /* there is no last step whose model mixed holds */
            saddle_copy(x, NULL, x->mixed);
            x->last_rate = x->rate;
        }
        if (d->momentum == SADDLE_MOMENTUM_GLOBAL) { /* with the step size of the step that it looks back at */
            saddle_sum(x, 1.0, x->mixed, -1.0, x->near_, x->gradient);
            saddle_sum(x, d->mu, x->momentum, (1 - d->mu) / x->last_rate, x->gradient, x->momentum);
        }
        saddle_copy(x, x->near_, x->mixed);
    }
    saddle_ask(x, SADDLE_OWN, 0, d->order == SADDLE_CTA ? x->mixed : NULL);
}

/* Are the pieces of all who take part here? */
WEFT_FN int saddle_all_here(saddle *x, int model) {
    uint32_t k, missing = 0;
    for (k = 0; k < x->net.count; k++) {
        saddle_edge *e = &x->edge[k];
        if (e->in && !e->here) e->here = saddle_fetch(x, k, model, &x->cursor);
        missing += e->in && !e->here;
    }
    return !missing;
}

WEFT_FN void saddle_models(saddle *x) {
    uint32_t k, partners = 0;
    for (;;) {
        const int more = x->cursor.n != 0 && x->degree;
        if (more && !x->coded) {
            if (!saddle_all_sent(x)) return;
            if (!saddle_send_model(x)) {
                saddle_spoil(x);
                return;
            }
        }
        if (!saddle_weigh(x)) return;
        if (!more) break;
        if (!saddle_all_here(x, 1)) return;
        saddle_take_models(x);
        saddle_next_piece(x, 1, &x->cursor);
        x->coded = 0;
    }
    for (k = 0; k < x->net.count; k++)
        if (x->edge[k].letter_due) return;       /* it tells the number of this step */
    if (x->cross && !saddle_all_sent(x)) return; /* gradients are coded where models were */
    for (k = 0; k < x->net.count; k++) {
        if (!x->edge[k].in) continue;
        partners++;
        x->edge[k].first = 0;
        if (!x->sends_gradients) saddle_forget_news(&x->edge[k]);
    }
    x->stats.exchanges += partners;
    saddle_combine(x, x->degree);
}

/* ---- Gradients of the neighbourhood ---- */

/* What a piece of the sum is multiplied with, since a neighbour was lost: the weight that is in it becomes 1. */
WEFT_FN double saddle_undo(const saddle *x, int received) {
    double w = x->own_weight;
    uint32_t k;
    for (k = 0; k < x->net.count; k++) {
        const saddle_edge *e = &x->edge[k];
        if (e->made) w += (1 - x->desc.share) * e->weight;
        if (received && e->in && e->here) w += x->desc.share * e->weight;
    }
    return w > 0 ? 1 / w : 0;
}

WEFT_FN void saddle_begin_gradients(saddle *x) {
    uint32_t k;
    if (!x->sends_gradients) {
        if (x->short_) saddle_scale(x, saddle_undo(x, 0), x->sum, x->sum);
        saddle_adapt(x, x->sum);
        return;
    }
    for (k = 0; k < x->net.count; k++) {
        x->edge[k].here = 0;
        x->edge[k].sent = 0;
    }
    memset(&x->cursor, 0, sizeof x->cursor);
    saddle_next_piece(x, 0, &x->cursor);
    x->coded = 0;
    saddle_phase(x, SADDLE_GRADIENTS, WEFT_TEXT("exchanging gradients"));
}

WEFT_FN void saddle_gradients(saddle *x) {
    const saddle_cursor *c = &x->cursor;
    uint32_t k;
    for (; c->n; saddle_next_piece(x, 0, &x->cursor), x->coded = 0) {
        if (!x->coded) {
            if (!saddle_all_sent(x)) return;
            for (k = 0; k < x->net.count; k++) {
                saddle_edge *e = &x->edge[k];
                if (!e->in) continue;
                weft_link_send(&x->net, k, e->store + e->sent, e->length[c->index]);
                e->sent += e->length[c->index];
            }
            x->coded = 1;
        }
        if (!saddle_all_here(x, 0)) return;
        for (k = 0; k < x->net.count; k++) {
            saddle_edge *e = &x->edge[k];
            weft_detail why = weft_detail_none();
            weft_status s;
            if (!e->in) continue;
            s = saddle_decode(x, c, &x->gradient_codec, e->piece, e->piece_bytes, 1, x->desc.share * e->weight, x->sum,
                              &why);
            if (s < 0) weft_link_fault(&x->net, k, s, why.field, why.expected, why.got);
        }
        if (x->short_) {
            unsigned char *piece = saddle_piece_at(x, x->sum, c);
            weft_run_scale(x->kernels, x->desc.pool, x->desc.params.tensor[c->tensor].dtype, c->n, saddle_undo(x, 1),
                           piece, piece);
        }
        for (k = 0; k < x->net.count; k++) x->edge[k].here = 0;
    }
    if (!saddle_all_sent(x)) return; /* the next models are coded where these are */
    for (k = 0; k < x->net.count; k++)
        if (x->edge[k].in) saddle_forget_news(&x->edge[k]);
    saddle_adapt(x, x->sum);
}

/* ---- Driving ---- */

WEFT_FN void saddle_first(saddle *x) {
    x->evaluation = 0;
    x->sending = NULL;
    if (x->desc.order == SADDLE_ATC)
        saddle_ask(x, SADDLE_OWN, 0, NULL);
    else
        saddle_phase(x, SADDLE_READY, WEFT_TEXT("agreeing with neighbours"));
}

/* Is there a neighbour with whom it is not settled yet when it takes part? */
WEFT_FN int saddle_unsettled(const saddle *x) {
    uint32_t k;
    for (k = 0; k < x->net.count; k++) {
        const saddle_edge *e = &x->edge[k];
        const weft_link_state s = x->net.link[k].state;
        if (x->state == SADDLE_OPENING && (s == WEFT_LINK_OPENING || (s == WEFT_LINK_UP && !e->agreed))) return 1;
        if (e->pending && (e->propose_due || e->from <= x->step + 1)) return 1;
    }
    return 0;
}

WEFT_FN void saddle_leave_poll(saddle *x) {
    uint32_t k, left = 0;
    if (!saddle_all_sent(x)) return;
    for (k = 0; k < x->net.count; k++) {
        weft_link *l = &x->net.link[k];
        saddle_edge *e = &x->edge[k];
        if (l->state == WEFT_LINK_UP && !e->said && !e->propose_due && !e->accept_due) {
            e->said = l->bye_due = 1;
            x->net.moved = 1;
        }
        /* whoever has not said hello may be gone; but before the first step all are waited for */
        left += (l->state == WEFT_LINK_OPENING && (!x->stats.steps || l->theirs)) ||
                (l->state == WEFT_LINK_UP && (!e->said || l->bye_due));
    }
    if (left || !weft_links_flushed(&x->net)) return;
    weft_links_close(&x->net);
    saddle_phase(x, SADDLE_LEFT, WEFT_TEXT("gone"));
}

WEFT_FN void saddle_pump(saddle *x) {
    int round;
    uint32_t k;
    for (round = 0; round < SADDLE_ROUNDS; round++) {
        x->net.moved = 0;
        for (k = 0; k < x->net.count; k++) {
            weft_link_pump(&x->net, k);
            saddle_post(x, k);
        }
        if (x->state == SADDLE_OPENING && !saddle_unsettled(x)) saddle_first(x);
        if (x->state == SADDLE_READY && !saddle_unsettled(x)) saddle_begin_models(x);
        if (x->state == SADDLE_MODELS) saddle_models(x);
        if (x->state == SADDLE_GRADIENTS) saddle_gradients(x);
        if (x->state == SADDLE_LEAVING) saddle_leave_poll(x);
        if (!x->net.moved) break;
    }
}

/* Nothing has moved for timeout_ns: said once a time-out, and nothing is lost. */
WEFT_FN weft_status saddle_deadline(saddle *x) {
    uint64_t now;
    if (!x->desc.timeout_ns) return WEFT_AGAIN;
    now = x->net.net->now(x->net.net->ctx);
    if (x->net.progress || !x->timing) {
        x->net.progress = 0;
        x->timing = 1;
        x->since_ns = now;
    }
    if (now - x->since_ns < x->desc.timeout_ns) return WEFT_AGAIN;
    x->timing = 0;
    return saddle_fail(x, WEFT_ERR_TIMEOUT, WEFT_NO_RANK, WEFT_TEXT("timeout_ns"), x->desc.timeout_ns,
                       now - x->since_ns);
}

WEFT_FN weft_status saddle_drive(saddle *x) {
    saddle_pump(x);
    if (x->net.refused) {
        weft_status s = x->net.refused;
        x->detail = x->net.fault;
        x->net.refused = WEFT_OK;
        return s;
    }
    switch (x->state) {
    case SADDLE_IDLE:
    case SADDLE_LEFT: return WEFT_OK;
    case SADDLE_WANTING: return WEFT_WANT_GRADIENT;
    case SADDLE_SPOILT: return saddle_fail(x, WEFT_ERR_NONFINITE, x->me, WEFT_TEXT("diverged"), 0, 1);
    default: return saddle_deadline(x);
    }
}

/* ---- Descriptor and memory ---- */

/* A number where zero is the default and WEFT_ZERO asks for zero. */
WEFT_FN int saddle_number(double *v, double otherwise, double most, int below) {
    if (*v <= 0 && *v >= 0)
        *v = otherwise;
    else if (*v <= (double)WEFT_ZERO && *v >= (double)WEFT_ZERO)
        *v = 0;
    return *v >= 0 && (below ? *v < most : *v <= most);
}

WEFT_FN weft_status saddle_wrong(weft_detail *d, const char *field, double most, double got) {
    return weft_refuse(d, WEFT_ERR_ARGUMENT, field, weft_double_bits(most), weft_double_bits(got));
}

WEFT_FN int saddle_is_cross(const saddle_desc *d) {
    return d->variant == SADDLE_N || d->variant == SADDLE_NGC;
}

/* Fills in what the variant has as its defaults. */
WEFT_FN weft_status saddle_check_rule(saddle_desc *o, weft_codec *gradient, weft_detail *d) {
    static const saddle_momentum momentum[6] = {SADDLE_MOMENTUM_GLOBAL, SADDLE_MOMENTUM_LOCAL, SADDLE_MOMENTUM_GLOBAL,
                                                SADDLE_MOMENTUM_LOCAL,  SADDLE_MOMENTUM_NONE,  SADDLE_MOMENTUM_LOCAL};
    const double given = o->rho;
    int cross;
    if ((uint64_t)o->variant > SADDLE_DSGDM)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.variant"), SADDLE_DSGDM, (uint64_t)o->variant);
    cross = saddle_is_cross(o);
    if ((uint64_t)o->order > SADDLE_CWA || (cross && o->order == SADDLE_ATC))
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.order"), SADDLE_CWA, (uint64_t)o->order);
    if (o->order == SADDLE_ORDER_DEFAULT) o->order = cross ? SADDLE_CWA : SADDLE_ATC;
    if ((uint64_t)o->momentum > SADDLE_MOMENTUM_GLOBAL)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.momentum"), SADDLE_MOMENTUM_GLOBAL,
                           (uint64_t)o->momentum);
    if (o->momentum == SADDLE_MOMENTUM_DEFAULT) o->momentum = momentum[o->variant];
    if (!(o->learning_rate > 0) || !weft_is_finite(o->learning_rate))
        return saddle_wrong(d, WEFT_TEXT("desc.learning_rate"), 1, o->learning_rate);
    if (!saddle_number(&o->rho, o->variant == SADDLE_Q || o->variant == SADDLE_N ? 0.05 : 0, 1e30, 0) ||
        (o->variant != SADDLE_Q && o->variant != SADDLE_N && o->rho > 0))
        return saddle_wrong(d, WEFT_TEXT("desc.rho"), o->variant == SADDLE_Q || o->variant == SADDLE_N ? 1e30 : 0,
                            given);
    if (!saddle_number(&o->beta, 0.9, 1, 1)) return saddle_wrong(d, WEFT_TEXT("desc.beta"), 1, o->beta);
    if (!saddle_number(&o->mu, o->beta, 1, 1)) return saddle_wrong(d, WEFT_TEXT("desc.mu"), 1, o->mu);
    if (o->nesterov < WEFT_ZERO || o->nesterov > 1)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.nesterov"), 1, (uint64_t)(int64_t)o->nesterov);
    o->nesterov = o->nesterov != WEFT_ZERO;
    if (!(o->weight_decay >= 0) || !weft_is_finite(o->weight_decay))
        return saddle_wrong(d, WEFT_TEXT("desc.weight_decay"), 1, o->weight_decay);
    if (!(o->gamma >= 0 && o->gamma <= 1)) return saddle_wrong(d, WEFT_TEXT("desc.gamma"), 1, o->gamma);
    if (!(o->gamma > 0)) o->gamma = 1;
    if (!saddle_number(&o->share, 1, 1, 0)) return saddle_wrong(d, WEFT_TEXT("desc.share"), 1, o->share);
    if ((uint64_t)o->mixing > WEFT_OWN_WEIGHTS || (o->mixing == WEFT_OWN_WEIGHTS && !o->weight))
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.mixing"), WEFT_OWN_WEIGHTS, (uint64_t)o->mixing);
    if (weft_codec_check(&o->codec, d) != WEFT_OK) return d->status;
    if ((uint64_t)o->feedback > SADDLE_FEEDBACK)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.feedback"), SADDLE_FEEDBACK, (uint64_t)o->feedback);
    if (o->feedback == SADDLE_FEEDBACK_DEFAULT)
        o->feedback = o->codec.kind == WEFT_CODEC_IDENTITY ? SADDLE_NO_FEEDBACK : SADDLE_DIFFERENCE;
    if (o->active && o->feedback == SADDLE_DIFFERENCE) /* copies would miss what is sent without them */
        return weft_refuse(d, WEFT_ERR_UNSUPPORTED, WEFT_TEXT("desc.active (with SADDLE_DIFFERENCE)"), 0, 1);
    *gradient = weft_codec_identity();
    if (cross && o->share > 0) *gradient = o->gradient_codec ? *o->gradient_codec : o->codec;
    if (weft_codec_check(gradient, d) != WEFT_OK) return d->status;
    if (o->gradient_feedback < WEFT_ZERO || o->gradient_feedback > 1)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.gradient_feedback"), 1,
                           (uint64_t)(int64_t)o->gradient_feedback);
    o->gradient_feedback = o->gradient_feedback != WEFT_ZERO && gradient->kind != WEFT_CODEC_IDENTITY;
    if (o->compress_self < 0 || o->compress_self > 1 || (o->compress_self && gradient->kind == WEFT_CODEC_IDENTITY))
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.compress_self"), gradient->kind != WEFT_CODEC_IDENTITY,
                           (uint64_t)(int64_t)o->compress_self);
    return WEFT_OK;
}

WEFT_FN weft_status saddle_check(const saddle_desc *in, size_t desc_size, uint32_t abi, saddle_desc *out,
                                 weft_codec *gradient, weft_detail *d) {
    weft_status s;
    uint64_t most;
    size_t i;
    if (!in) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc"), 1, 0);
    if (abi != WEFT_ABI) return weft_refuse(d, WEFT_ERR_ABI, WEFT_TEXT("header version"), WEFT_ABI, abi);
    if (desc_size != sizeof *in)
        return weft_refuse(d, WEFT_ERR_ABI, WEFT_TEXT("sizeof(saddle_desc)"), sizeof *in, desc_size);
    if (in->struct_size != sizeof *in)
        return weft_refuse(d, WEFT_ERR_ABI, WEFT_TEXT("desc.struct_size"), sizeof *in, in->struct_size);
    *out = *in;
    if ((s = WEFT_GPU_CHECK(in, d)) != WEFT_OK) return s;
    if ((s = weft_transport_check(in->transport, d)) != WEFT_OK) return s;
    if ((s = weft_tensors_check(&in->params, 0, d)) != WEFT_OK) return s;
    if ((s = weft_graph_check(in->graph, in->transport->size, d)) != WEFT_OK) return s;
    if (in->channel >= WEFT_CHANNELS)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.channel"), WEFT_CHANNELS - 1, in->channel);
    if (!weft_kernels_select(in->isa, 0))
        return weft_refuse(d, WEFT_ERR_UNSUPPORTED, WEFT_TEXT("desc.isa"), 0, (uint64_t)in->isa);
    out->isa = weft_isa_resolve(in->isa);
    if ((s = saddle_check_rule(out, gradient, d)) != WEFT_OK) return s;
    if (!in->group_of_tensor && in->groups)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.groups (without group_of_tensor)"), 0, in->groups);
    if (!in->group_of_tensor) out->groups = 1;
    for (i = 0; i < in->params.count; i++) {
        const weft_tensor *t = &in->params.tensor[i];
        if (t->dtype != WEFT_F32 && t->dtype != WEFT_F64)
            return weft_refuse(d, WEFT_ERR_UNSUPPORTED, WEFT_TEXT("params.dtype"), WEFT_F64, (uint64_t)t->dtype);
        if (weft_codec_bytes(&in->codec, t->dtype, t->count, t->count) == SIZE_MAX ||
            weft_codec_bytes(gradient, t->dtype, t->count, t->count) == SIZE_MAX)
            return weft_refuse(d, WEFT_ERR_OVERFLOW, WEFT_TEXT("params.count"), UINT32_MAX, t->count);
        if (in->group_of_tensor && in->group_of_tensor[i] >= in->groups)
            return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.group_of_tensor"), in->groups,
                               in->group_of_tensor[i]);
    }
    if ((uint64_t)in->guard > SADDLE_GUARD_ZERO)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.guard"), SADDLE_GUARD_ZERO, (uint64_t)in->guard);
    if ((uint64_t)in->initial > SADDLE_INITIAL_KEEP)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.initial"), SADDLE_INITIAL_KEEP, (uint64_t)in->initial);
    out->join = in->join != 0;
    out->in_place = in->in_place != 0;
    out->piece_bytes = in->piece_bytes ? in->piece_bytes : 262144;
    most = in->transport->max_message_bytes;
    if (most && most < out->piece_bytes) out->piece_bytes = (uint32_t)most;
    if (out->piece_bytes < 4096) /* a block of any codec */
        return weft_refuse(d, most && most < 4096 ? WEFT_ERR_UNSUPPORTED : WEFT_ERR_ARGUMENT,
                           WEFT_TEXT("desc.piece_bytes, transport.max_message_bytes"), 4096, out->piece_bytes);
    if (in->timeout_ns && !in->transport->now)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("transport.now (for a deadline)"), 1, 0);
    return WEFT_OK;
}

/* Bytes of a coded model or gradient, its longest piece, and pieces. */
WEFT_FN size_t saddle_measure(const saddle_desc *d, const weft_codec *c, int model, size_t *longest, size_t *pieces) {
    size_t i, total = 0;
    for (i = 0; i < d->params.count; i++) {
        const weft_tensor *t = &d->params.tensor[i];
        const size_t n = saddle_piece(d, c, model, t), each = weft_dtype_bytes(t->dtype);
        size_t bytes;
        if (!n) continue;
        bytes = weft_codec_bytes(c, t->dtype, t->count, n);
        /* no more than 16 bytes an element: does not overflow, since codecs have refused such tensors */
        total +=
            c->kind == WEFT_CODEC_TOPK
                ? weft_codec_bytes(c, t->dtype, t->count, t->count)
                : t->count / n * bytes + (t->count % n ? weft_codec_bytes(c, t->dtype, t->count, t->count % n) : 0);
        if (model && saddle_has_copies(d) && bytes < n * each) bytes = n * each;
        if (bytes > *longest) *longest = bytes;
        *pieces += t->count / n + (t->count % n != 0);
    }
    return total;
}

/* NULL: there is none, or this only measures. */
WEFT_FN WEFT_NOINLINE unsigned char *saddle_take(weft_layout *l, const char *name, size_t count, size_t each) {
    return count ? (unsigned char *)weft_layout_data(l, name, count, each) : NULL;
}

WEFT_FN saddle *saddle_lay_out(weft_layout *l, const saddle_desc *d, const weft_codec *gradient, saddle *tmp) {
    const uint32_t degree = weft_graph_degree(d->graph, d->transport->rank);
    const size_t tensors = d->params.count;
    const int cross = saddle_is_cross(d), copies = saddle_has_copies(d);
    saddle *made = (saddle *)weft_layout_take(l, WEFT_TEXT("saddle"), 1, sizeof(saddle));
    saddle *x = made ? made : tmp;
    unsigned char *pieces, *stores, *neighbours, *residuals;
    size_t i, model = 0, longest = 0, models = 0, gradients = 0, store = 0, other, *lengths;
    uint32_t k;
    memset(x, 0, sizeof *x);
    x->net.link = (weft_link *)weft_layout_take(l, WEFT_TEXT("links, one a neighbour"), degree, sizeof(weft_link));
    x->edge = (saddle_edge *)weft_layout_take(l, WEFT_TEXT("neighbours"), degree, sizeof(saddle_edge));
    x->place = (size_t *)weft_layout_take(l, WEFT_TEXT("places of tensors"), tensors, sizeof(size_t));
    x->at_list = (weft_tensor *)weft_layout_take(l, WEFT_TEXT("tensors of a want, at"), tensors, sizeof(weft_tensor));
    x->into_list =
        (weft_tensor *)weft_layout_take(l, WEFT_TEXT("tensors of a want, into"), tensors, sizeof(weft_tensor));
    x->group_of = (uint32_t *)weft_layout_take(l, WEFT_TEXT("groups of tensors"), tensors, sizeof(uint32_t));
    x->norm = (double *)weft_layout_take(l, WEFT_TEXT("norms"), d->groups, sizeof(double));
    x->weight = (double *)weft_layout_take(l, WEFT_TEXT("weights"), (size_t)degree + 1, sizeof(double));
    x->source = (const void **)weft_layout_take(l, WEFT_TEXT("sources"), (size_t)degree + 1, sizeof(void *));
    for (i = 0; i < tensors; i++) {
        const weft_tensor *t = &d->params.tensor[i];
        size_t bytes = t->count * weft_dtype_bytes(t->dtype);
        if (made) x->place[i] = model;
        if (!weft_add_size(bytes, WEFT_ALIGNMENT - 1, &bytes) ||
            !weft_add_size(model, bytes / WEFT_ALIGNMENT * WEFT_ALIGNMENT, &model))
            l->overflow = 1;
    }
    if (model > SIZE_MAX / 32) l->overflow = 1; /* then no sum below overflows */
    if (l->overflow) return made;
    if (cross && !copies)
        store = saddle_measure(d, &d->codec, 1, &longest, &models);
    else
        saddle_measure(d, &d->codec, 1, &longest, &models);
    if (cross && d->share > 0) {
        other = saddle_measure(d, gradient, 0, &longest, &gradients);
        if (other > store) store = other;
    }
    if (gradients > models) models = gradients;
    longest = (longest + WEFT_ALIGNMENT - 1) / WEFT_ALIGNMENT * WEFT_ALIGNMENT;
    store = (store + WEFT_ALIGNMENT - 1) / WEFT_ALIGNMENT * WEFT_ALIGNMENT;
    x->store_bytes = store;
    x->momentum = saddle_take(l, WEFT_TEXT("momentum"), d->momentum != SADDLE_MOMENTUM_NONE, model);
    x->near_ = saddle_take(l, WEFT_TEXT("x + eps, then x - eta u"), 1, model);
    x->gradient = saddle_take(l, WEFT_TEXT("gradient, then sum of models"), 1, model);
    x->mixed = saddle_take(l, WEFT_TEXT("mixed model"), d->order != SADDLE_ATC, model);
    x->sum = saddle_take(l, WEFT_TEXT("sum of gradients"), (size_t)cross, model);
    x->kept =
        saddle_take(l, WEFT_TEXT("residual or public copy of the model"), d->feedback >= SADDLE_DIFFERENCE, model);
    x->self_kept =
        saddle_take(l, WEFT_TEXT("residual of its own gradient"), d->compress_self && d->gradient_feedback, model);
    x->out = saddle_take(l, WEFT_TEXT("a piece that goes"), degree || d->compress_self, longest);
    x->whole = saddle_take(l, WEFT_TEXT("a piece of a whole copy that goes"), degree && copies, longest);
    pieces = saddle_take(l, WEFT_TEXT("pieces that come"), degree, longest);
    stores = saddle_take(l, WEFT_TEXT("coded messages"), store ? degree : 0, store);
    lengths = cross
                  ? (size_t *)weft_layout_take(l, WEFT_TEXT("lengths of their pieces"), degree, models * sizeof(size_t))
                  : NULL;
    neighbours = saddle_take(l, WEFT_TEXT("public copies of neighbours"), copies ? degree : 0, model);
    residuals = saddle_take(l, WEFT_TEXT("residuals of gradients, one a neighbour"),
                            cross && d->gradient_feedback ? degree : 0, model);
    WEFT_GPU_LAYOUT(l, &x->gpu, &d->params, &d->params, degree + 1);
#ifdef WEFT_CUDA
    weft_gpu_codec_layout(l, &x->gpu, &d->params);
#endif
    if (!made) return NULL;
    memset(x->edge, 0, degree * sizeof *x->edge);
    for (k = 0; k < degree; k++) {
        saddle_edge *e = &x->edge[k];
        e->piece = pieces + k * longest;
        if (stores) e->store = stores + k * store;
        if (lengths) e->length = lengths + k * models;
        if (neighbours) e->copy = neighbours + k * model;
        if (residuals) e->kept = residuals + k * model;
    }
    return made;
}

SADDLE_API size_t saddle_memory_abi(const saddle_desc *desc, weft_memory_report *report, size_t desc_size,
                                    uint32_t abi) {
    weft_layout l;
    weft_detail detail = weft_detail_none();
    weft_codec gradient;
    saddle_desc d;
    saddle tmp;
    size_t total = 0;
    memset(&l, 0, sizeof l);
    if (report) memset(report, 0, sizeof *report);
    l.report = report;
    if (saddle_check(desc, desc_size, abi, &d, &gradient, &detail) == WEFT_OK) {
        WEFT_GPU_LEND(&l, &d);
        saddle_lay_out(&l, &d, &gradient, &tmp);
        total = weft_layout_total(&l);
        if (!total) weft_refuse(&detail, WEFT_ERR_OVERFLOW, WEFT_TEXT("memory"), SIZE_MAX, 0);
    }
    if (report) {
        report->detail = detail;
        report->total_bytes = total;
        report->requests_per_peer = WEFT_LINK_REQUESTS;
        WEFT_GPU_REPORT(report, &l);
    }
    return total;
}

WEFT_FN void saddle_begin_afresh(saddle *x);

WEFT_FN uint64_t saddle_codec_hash(const weft_codec *c, uint64_t more) {
    uint64_t h = weft_mix((uint64_t)c->kind + 1);
    h = weft_mix(h + c->bits * 2u + (uint32_t)c->biased);
    h = weft_mix(h + weft_double_bits(c->drop + 0.0));
    return weft_mix(h + more);
}

WEFT_FN void saddle_fingerprint(saddle *x) {
    const saddle_desc *d = &x->desc;
    uint64_t *f = x->fingerprint, h = 0;
    size_t i, n = 0;
    for (i = 0; i < d->params.count; i++)
        h = weft_mix(h + weft_mix(d->params.tensor[i].count) + (uint64_t)d->params.tensor[i].dtype);
    f[n++] = SADDLE_MAGIC;
    f[n++] = WEFT_VERSION;
    f[n++] = d->params.count;
    f[n++] = weft_tensors_elements(&d->params);
    f[n++] = h;
    f[n++] = d->graph->workers;
    f[n++] = d->graph->edges;
    f[n++] = weft_graph_hash(d->graph);
    f[n++] = (uint64_t)d->order;
    f[n++] = (uint64_t)d->momentum;
    f[n++] = weft_double_bits(d->rho);
    f[n++] = weft_double_bits(d->beta);
    f[n++] = weft_double_bits(d->mu);
    f[n++] = (uint64_t)d->nesterov;
    f[n++] = weft_double_bits(d->weight_decay + 0.0);
    f[n++] = weft_double_bits(d->gamma);
    f[n++] = weft_double_bits(d->share);
    f[n++] = (uint64_t)d->mixing;
    f[n++] = saddle_codec_hash(&d->codec, (uint64_t)d->feedback);
    f[n++] = saddle_codec_hash(&x->gradient_codec, (uint64_t)(d->gradient_feedback * 2 + d->compress_self));
    f[n++] = d->piece_bytes;
    f[n++] = (uint64_t)d->variant;
}

SADDLE_API weft_status saddle_init_abi(saddle **out, const saddle_desc *desc, void *memory, size_t bytes,
                                       weft_detail *detail, size_t desc_size, uint32_t abi) {
    weft_detail why = weft_detail_none();
    weft_detail *say = detail ? detail : &why;
    weft_layout l;
    weft_codec gradient;
    saddle_desc d;
    saddle *x;
    size_t need, i;
    uint32_t k;
    weft_status s;
    *say = why;
    if (!out) return weft_refuse(say, WEFT_ERR_ARGUMENT, WEFT_TEXT("out"), 1, 0);
    *out = NULL;
    if ((s = saddle_check(desc, desc_size, abi, &d, &gradient, say)) != WEFT_OK) return s;
    need = saddle_memory_abi(desc, NULL, desc_size, abi);
    if (!need) return weft_refuse(say, WEFT_ERR_OVERFLOW, WEFT_TEXT("memory"), SIZE_MAX, 0);
    if (!memory || bytes < need) return weft_refuse(say, WEFT_ERR_MEMORY, WEFT_TEXT("bytes"), need, memory ? bytes : 0);
    if ((s = weft_float_probe(say)) != WEFT_OK) return s;
    memset(&l, 0, sizeof l);
    l.base = weft_align_memory(memory);
    WEFT_GPU_LEND(&l, &d);
    x = saddle_lay_out(&l, &d, &gradient, NULL);
    x->magic = SADDLE_MAGIC;
    x->desc = d;
    x->gradient_codec = gradient;
    x->desc.gradient_codec = d.gradient_codec ? &x->gradient_codec : NULL;
    x->desc.group_of_tensor = d.group_of_tensor ? x->group_of : NULL;
    for (i = 0; i < d.params.count; i++) x->group_of[i] = d.group_of_tensor ? d.group_of_tensor[i] : 0;
    x->detail = weft_detail_none();
    x->net.detail = x->net.fault = x->detail;
    x->net.net = d.transport;
    x->net.channel = d.channel;
    x->net.trace = d.trace;
    x->net.trace_ctx = d.trace_ctx;
    x->net.owner.self = x;
    x->net.owner.hello = saddle_on_hello;
    x->net.owner.up = saddle_on_up;
    x->net.owner.down = saddle_on_down;
    x->net.owner.letter = saddle_on_letter;
    x->net.owner.busy = saddle_is_busy;
    x->me = d.transport->rank;
    x->neighbour = weft_graph_neighbours(d.graph, x->me, &x->net.count);
    memset(x->net.link, 0, x->net.count * sizeof *x->net.link);
    for (k = 0; k < x->net.count; k++) x->net.link[k].rank = x->neighbour[k];
    x->kernels = weft_kernels_select(d.isa, weft_tensors_elements(&d.params) * sizeof(float));
    x->codecs = weft_codec_kernels_select(d.isa, 0);
    s = WEFT_GPU_INIT(&x->gpu, &d, &l, &x->kernels, say);
    if (s != WEFT_OK) return s;
    WEFT_GPU_USE(x->net, &d, &x->gpu);
#ifdef WEFT_CUDA
    x->on_gpu = *x->codecs;
    x->on_gpu.core = x->kernels;
    x->codecs = &x->on_gpu;
#endif
    x->cross = saddle_is_cross(&d);
    x->sends_gradients = x->cross && d.share > 0;
    x->rate = d.learning_rate;
    saddle_fingerprint(x);
    saddle_begin_afresh(x);
    for (k = 0; k < x->net.count; k++)
        if (x->edge[k].copy) saddle_zero(x, x->edge[k].copy);
    saddle_phase(x, SADDLE_IDLE, WEFT_TEXT("between steps"));
#ifdef WEFT_CUDA
    if (WEFT_GPU_IS_BROKEN(&x->net))
        return weft_refuse(say, x->gpu.failed, WEFT_TEXT("cuda"), 0, (uint64_t)x->gpu.device.error);
#endif
    *out = x;
    return WEFT_OK;
}

/* ---- Verbs ---- */

#define SADDLE_BIT(state) (1u << (state))
#define SADDLE_IN_A_STEP                                                                                               \
    (SADDLE_BIT(SADDLE_OPENING) | SADDLE_BIT(SADDLE_WANTING) | SADDLE_BIT(SADDLE_READY) | SADDLE_BIT(SADDLE_MODELS) |  \
     SADDLE_BIT(SADDLE_GRADIENTS) | SADDLE_BIT(SADDLE_SPOILT))
#define SADDLE_ANY_LIVE (SADDLE_BIT(SADDLE_LEFT) - 1u)

/* A verb begins. `states`: bit a state in which it is legal. Ends with saddle_exit. */
WEFT_FN weft_status saddle_enter(saddle *x, uint32_t states) {
    if (!x || x->magic != SADDLE_MAGIC) return WEFT_ERR_ARGUMENT;
    if (x->busy) return WEFT_ERR_REENTRY;
    if (!(states >> x->state & 1u))
        return saddle_fail(x, WEFT_ERR_ORDER, WEFT_NO_RANK, WEFT_TEXT("state"), states, (uint64_t)x->state);
    x->busy = 1;
    x->detail = weft_detail_none();
    return WEFT_OK;
}

WEFT_FN WEFT_NOINLINE weft_status saddle_exit(saddle *x, weft_status s) {
    x->busy = 0;
#ifdef WEFT_CUDA
    if (WEFT_GPU_IS_BROKEN(&x->net)) /* whatever else came of it */
        return saddle_fail(x, x->gpu.failed, WEFT_NO_RANK, WEFT_TEXT("cuda"), 0, (uint64_t)x->gpu.device.error);
#endif
    if (s > 0) x->detail.status = s;
    return s;
}

/* The parameters that training starts from. */
WEFT_FN void saddle_open(saddle *x) {
    const weft_tensors *p = &x->desc.params;
    uint64_t first = 0, h = 0;
    uint32_t k;
    size_t i;
    x->opened = 1;
    if (x->desc.initial == SADDLE_INITIAL_CHECK && !x->desc.join && x->step == 0) {
        for (i = 0; i < p->count; i++) {
            h += weft_run_hash(x->kernels, x->desc.pool, p->tensor[i].dtype, p->tensor[i].count, first,
                               p->tensor[i].data);
            first += p->tensor[i].count;
        }
        x->initial_hash = h ? h : 1;
    }
    saddle_phase(x, SADDLE_OPENING, WEFT_TEXT("waiting for neighbours"));
    for (k = 0; k < x->net.count; k++)
        if (!x->edge[k].barred) weft_link_open(&x->net, k);
}

SADDLE_API weft_status saddle_next(saddle *x, saddle_want *want) {
    weft_status s = saddle_enter(x, SADDLE_BIT(SADDLE_IDLE) | SADDLE_IN_A_STEP);
    if (s != WEFT_OK) return s;
    if (!want) return saddle_exit(x, saddle_fail(x, WEFT_ERR_ARGUMENT, WEFT_NO_RANK, WEFT_TEXT("want"), 1, 0));
    if (x->state == SADDLE_IDLE) {
        const uint64_t bad = saddle_nonfinite(x, NULL);
        if (bad) return saddle_exit(x, saddle_fail(x, WEFT_ERR_NONFINITE, x->me, WEFT_TEXT("params"), 0, bad));
        x->timing = 0;
        if (x->opened)
            saddle_first(x);
        else
            saddle_open(x);
    } else if (x->state == SADDLE_WANTING && x->told) {
        if ((s = saddle_given(x)) != WEFT_OK) return saddle_exit(x, s);
    }
    s = saddle_drive(x);
    if (s == WEFT_WANT_GRADIENT) saddle_fill_want(x, want);
    return saddle_exit(x, s);
}

SADDLE_API weft_status saddle_poll(saddle *x) {
    weft_status s = saddle_enter(x, SADDLE_ANY_LIVE | SADDLE_BIT(SADDLE_LEFT));
    return s != WEFT_OK ? s : saddle_exit(x, saddle_drive(x));
}

SADDLE_API weft_status saddle_wait(saddle *x, saddle_want *want) {
    int leaving = x && x->magic == SADDLE_MAGIC && (x->state == SADDLE_LEAVING || x->state == SADDLE_LEFT);
    for (;;) {
        weft_status s = leaving ? saddle_poll(x) : saddle_next(x, want);
        uint64_t until = UINT64_MAX;
        if (s != WEFT_AGAIN) return s;
        if (x->net.moved || !x->net.net->wait) continue;
        if (x->desc.timeout_ns && x->timing && x->desc.timeout_ns < until - x->since_ns)
            until = x->since_ns + x->desc.timeout_ns;
        x->net.net->wait(x->net.net->ctx, until);
    }
}

SADDLE_API weft_status saddle_step(saddle *x, saddle_gradient_fn gradient, void *ctx) {
    saddle_want want;
    weft_status s;
    if (!gradient) {
        s = saddle_enter(x, SADDLE_ANY_LIVE);
        return s != WEFT_OK
                   ? s
                   : saddle_exit(x, saddle_fail(x, WEFT_ERR_ARGUMENT, WEFT_NO_RANK, WEFT_TEXT("gradient"), 1, 0));
    }
    /* one that failed is asked for again */
    if (x && x->magic == SADDLE_MAGIC && !x->busy && x->state == SADDLE_WANTING) x->told = 0;
    while ((s = saddle_next(x, &want)) == WEFT_WANT_GRADIENT) {
        x->busy = 1;
        s = gradient(ctx, &want);
        x->busy = 0;
        if (s < 0) break;
    }
    return s;
}

SADDLE_API weft_status saddle_set_learning_rate(saddle *x, double learning_rate) {
    weft_status s = saddle_enter(x, SADDLE_BIT(SADDLE_IDLE));
    if (s != WEFT_OK) return s;
    if (!(learning_rate > 0) || !weft_is_finite(learning_rate))
        return saddle_exit(x, saddle_fail(x, WEFT_ERR_ARGUMENT, WEFT_NO_RANK, WEFT_TEXT("learning_rate"),
                                          weft_double_bits(1), weft_double_bits(learning_rate)));
    x->rate = x->desc.learning_rate = learning_rate;
    return saddle_exit(x, WEFT_OK);
}

SADDLE_API weft_status saddle_leave(saddle *x) {
    weft_status s = saddle_enter(x, SADDLE_BIT(SADDLE_IDLE));
    if (s != WEFT_OK) return s;
    x->timing = 0;
    if (!x->opened) saddle_open(x); /* there may be neighbours who wait for it */
    saddle_phase(x, SADDLE_LEAVING, WEFT_TEXT("saying good-bye"));
    return saddle_exit(x, saddle_drive(x));
}

WEFT_FN weft_status saddle_set_link(saddle *x, uint32_t rank, int up) {
    uint32_t k;
    weft_status s = saddle_enter(x, SADDLE_ANY_LIVE);
    if (s != WEFT_OK) return s;
    if (rank >= x->desc.graph->workers || rank == x->me)
        return saddle_exit(x, saddle_fail(x, WEFT_ERR_ARGUMENT, rank, WEFT_TEXT("rank"), x->desc.graph->workers, rank));
    k = weft_graph_slot(x->desc.graph, x->me, rank);
    if (k == WEFT_NO_EDGE) return saddle_exit(x, WEFT_OK);
    x->edge[k].barred = !up;
    if (!x->opened) return saddle_exit(x, WEFT_OK);
    weft_link_down(&x->net, k, 0);
    x->net.link[k].faults = 0;
    x->net.link[k].bye_due = !up; /* it may live, and wait for this worker */
    if (up && x->state != SADDLE_LEAVING) weft_link_open(&x->net, k);
    return saddle_exit(x, WEFT_OK);
}

SADDLE_API weft_status saddle_peer_lost(saddle *x, uint32_t rank) {
    return saddle_set_link(x, rank, 0);
}

SADDLE_API weft_status saddle_peer_up(saddle *x, uint32_t rank) {
    return saddle_set_link(x, rank, 1);
}

/* ---- Saved state ---- */

/* The i-th of the buffers that go from step to step; NULL: there is none. As many as neighbours, and four. */
WEFT_FN unsigned char *saddle_lasting(const saddle *x, uint32_t i) {
    switch (i) {
    case 0: return x->momentum;
    case 1: return x->desc.momentum == SADDLE_MOMENTUM_GLOBAL && x->desc.order == SADDLE_CTA ? x->mixed : NULL;
    case 2: return x->kept;
    case 3: return x->self_kept;
    default: return x->edge[i - 4].kept;
    }
}

/* They are as in a fresh object. */
WEFT_FN void saddle_begin_afresh(saddle *x) {
    uint32_t i;
    for (i = 0; i < x->net.count + 4; i++)
        if (saddle_lasting(x, i)) saddle_zero(x, saddle_lasting(x, i));
}

/* All of it in order: measured, written and read by the same lines. */
WEFT_FN void saddle_blob(saddle *x, weft_blob *b) {
    uint32_t i;
    size_t t;
    WEFT_GPU_USE(*b, &x->desc, &x->gpu);
    weft_blob_u64(b, &x->step);
    weft_blob_u64(b, &x->stats.steps);
    weft_blob_u64(b, &x->stats.evaluations);
    weft_blob_u64(b, &x->stats.exchanges);
    weft_blob_u64(b, &x->stats.skipped);
    weft_blob_u64(b, &x->stats.nonfinite);
    weft_blob_double(b, &x->rate);
    weft_blob_double(b, &x->last_rate);
    for (i = 0; i < x->net.count + 4; i++) {
        unsigned char *buffer = saddle_lasting(x, i);
        for (t = 0; buffer && t < x->desc.params.count; t++) {
            const size_t each = weft_dtype_bytes(x->desc.params.tensor[t].dtype);
            weft_blob_raw(b, saddle_at(x, buffer, t), x->desc.params.tensor[t].count * each, each);
        }
    }
}

WEFT_FN size_t saddle_blob_bytes(saddle *x) {
    weft_blob b;
    memset(&b, 0, sizeof b);
    b.at = WEFT_BLOB_HEAD;
    saddle_blob(x, &b);
    return b.at + WEFT_BLOB_TAIL;
}

WEFT_FN uint64_t saddle_blob_fingerprint(const saddle *x) {
    uint64_t h = weft_mix((uint64_t)x->me << 1 | 1u) + x->desc.seed;
    int i;
    for (i = 0; i < SADDLE_FIELDS; i++) h = weft_mix(h + x->fingerprint[i]);
    return h;
}

/* A blob may have a valid checksum and still be hostile. */
WEFT_FN int saddle_blob_sane(saddle *x) {
    uint64_t bad = 0;
    uint32_t i;
    if (x->step > UINT64_MAX / 4 || x->stats.steps > x->step || !(x->rate > 0) || !weft_is_finite(x->rate)) return 0;
    if (x->step && (!(x->last_rate > 0) || !weft_is_finite(x->last_rate))) return 0;
    for (i = 0; i < x->net.count + 4; i++)
        if (saddle_lasting(x, i)) bad += saddle_nonfinite(x, saddle_lasting(x, i));
    return !bad;
}

SADDLE_API weft_status saddle_save_to(saddle *x, weft_write_fn write, void *ctx, size_t *bytes) {
    weft_blob b;
    weft_detail why = weft_detail_none();
    weft_status s = saddle_enter(x, SADDLE_BIT(SADDLE_IDLE));
    if (s != WEFT_OK) return s;
    s = weft_blob_begin(&b, write, ctx, saddle_blob_bytes(x), saddle_blob_fingerprint(x), bytes, &why);
    if (s == WEFT_OK) {
        saddle_blob(x, &b);
        s = weft_blob_end(&b, 1, &why);
    }
    if (s != WEFT_OK) (void)saddle_fail(x, s, WEFT_NO_RANK, why.field, why.expected, why.got);
    return saddle_exit(x, s);
}

SADDLE_API weft_status saddle_save(saddle *x, void *buf, size_t capacity, size_t *bytes) {
    weft_blob_buffer m;
    m.to = (unsigned char *)buf;
    m.bytes = capacity;
    return saddle_save_to(x, buf ? weft_blob_to_buffer : NULL, &m, bytes);
}

SADDLE_API weft_status saddle_load_from(saddle *x, weft_read_fn read, void *ctx, size_t bytes) {
    weft_blob b;
    weft_detail why = weft_detail_none();
    const double rate = x ? x->rate : 0;
    weft_status s = saddle_enter(x, SADDLE_BIT(SADDLE_IDLE));
    if (s != WEFT_OK) return s;
    if (!(saddle_state(x) & SADDLE_MAY_LOAD))
        return saddle_exit(x, saddle_fail(x, WEFT_ERR_ORDER, WEFT_NO_RANK, WEFT_TEXT("steps"), 0, x->step));
    s = weft_blob_check(&b, read, ctx, bytes, saddle_blob_bytes(x), saddle_blob_fingerprint(x), &why);
    if (s == WEFT_OK) {
        saddle_blob(x, &b);
        s = weft_blob_end(&b, saddle_blob_sane(x), &why);
        if (s == WEFT_OK) {
            x->loaded = 1;
            x->net.round = x->step;
            x->desc.learning_rate = x->rate;
            return saddle_exit(x, WEFT_OK);
        }
        x->step = 0;
        x->rate = rate;
        x->last_rate = 0;
        memset(&x->stats, 0, sizeof x->stats);
        saddle_begin_afresh(x);
    }
    return saddle_exit(x, saddle_fail(x, s, WEFT_NO_RANK, why.field, why.expected, why.got));
}

SADDLE_API weft_status saddle_load(saddle *x, const void *buf, size_t bytes) {
    weft_blob_buffer m;
    m.from = (const unsigned char *)buf;
    return saddle_load_from(x, buf ? weft_blob_from_buffer : NULL, &m, bytes);
}

/* ---- Reading ---- */

SADDLE_API void saddle_stats(const saddle *x, saddle_stats_t *out) {
    uint32_t k;
    if (!x || !out) return;
    *out = x->stats;
    out->traffic = x->net.traffic;
    out->lost = x->net.lost;
    out->faults = x->net.faults;
    out->neighbours = 0;
    if (x->magic != SADDLE_MAGIC) return;
    for (k = 0; k < x->net.count; k++) out->neighbours += x->net.link[k].state == WEFT_LINK_UP;
}

SADDLE_API void saddle_effective(const saddle *x, saddle_desc *out) {
    if (x && out) *out = x->desc;
}

SADDLE_API const weft_detail *saddle_detail(const saddle *x) {
    return x ? &x->detail : NULL;
}

SADDLE_API const weft_detail *saddle_fault(const saddle *x) {
    return x ? &x->net.fault : NULL;
}

SADDLE_API uint32_t saddle_state(const saddle *x) {
    if (!x || x->magic != SADDLE_MAGIC || x->state >= SADDLE_LEFT) return 0;
    if (x->state == SADDLE_IDLE)
        return SADDLE_MAY_NEXT | SADDLE_MAY_SET | SADDLE_MAY_LINK |
               (x->opened || x->loaded ? 0u : (uint32_t)SADDLE_MAY_LOAD);
    if (x->state == SADDLE_LEAVING) return SADDLE_MAY_POLL | SADDLE_MAY_LINK;
    if (x->state == SADDLE_SPOILT) return SADDLE_MAY_LINK;
    return SADDLE_MAY_NEXT | SADDLE_MAY_LINK |
           (x->state == SADDLE_WANTING ? (uint32_t)SADDLE_MAY_GIVE : (uint32_t)SADDLE_MAY_POLL);
}

SADDLE_API weft_link_state saddle_link(const saddle *x, uint32_t rank) {
    uint32_t k;
    if (!x || x->magic != SADDLE_MAGIC) return WEFT_LINK_DOWN;
    k = weft_graph_slot(x->desc.graph, x->me, rank);
    return k == WEFT_NO_EDGE ? WEFT_LINK_DOWN : x->net.link[k].state;
}

SADDLE_API const void *saddle_buffer(const saddle *x, saddle_buffer_kind kind, uint32_t peer, size_t tensor) {
    unsigned char *buffer = NULL;
    const saddle_edge *e = NULL;
    uint32_t k;
    if (!x || x->magic != SADDLE_MAGIC || tensor >= x->desc.params.count) return NULL;
    k = weft_graph_slot(x->desc.graph, x->me, peer);
    if (k != WEFT_NO_EDGE) e = &x->edge[k];
    switch (kind) {
    case SADDLE_OF_MOMENTUM: buffer = x->momentum; break;
    case SADDLE_OF_MODEL: buffer = x->kept; break;
    case SADDLE_OF_COPY: buffer = e ? e->copy : NULL; break;
    case SADDLE_OF_GRADIENT: buffer = peer == x->me ? x->self_kept : e ? e->kept : NULL; break;
    }
    return buffer ? saddle_at(x, buffer, tensor) : NULL;
}

SADDLE_API void saddle_close(saddle *x) {
    if (!x || x->magic != SADDLE_MAGIC || x->busy) return;
    x->busy = 1;
    if (x->swapped) saddle_swap(x, x->at);
    weft_links_close(&x->net);
    x->state = SADDLE_CLOSED;
    x->magic = 0;
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

#endif /* SADDLE_IMPLEMENTATION */

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

#if WEFT_FAMILY == WEFT_CODEC_FAMILY && WEFT_ELEMENT == 32
/* The kernels of codecs; codec.h says what they do. WEFT_EACH_IN_ORDER: something is carried along. */
#if WEFT_LANES > 1
#define WEFT_EACH_IN_ORDER WEFT_EACH
#else
#define WEFT_EACH_IN_ORDER for (i = 0; i < n; i++) WEFT_STEP(WEFT_LOAD, WEFT_STORE)
#endif

WEFT_KERNEL uint32_t WEFT_K(codec_gather)(size_t n, const void *zs, const void *kepts, int form, float *t) {
    const float *z = (const float *)zs, *kept = (const float *)kepts;
    const WEFT_I magnitude = WEFT_I_SET(0x7FFFFFFFu);
    float lanes[WEFT_LANES];
    WEFT_I most = WEFT_I_SET(0u);
    uint32_t bits, result = 0;
    size_t i;
#define WEFT_TO(STORE, expression)                                                                                     \
    {                                                                                                                  \
        const WEFT_F v = expression;                                                                                   \
        const WEFT_I a = WEFT_I_AND(WEFT_F_TO_I(v), magnitude);                                                        \
        most = WEFT_I_MAX(a, most);                                                                                    \
        STORE(t + i, v);                                                                                               \
    }
    if (form == 0) {
#define WEFT_STEP(LOAD, STORE) WEFT_TO(STORE, LOAD(z + i))
        WEFT_EACH
#undef WEFT_STEP
    } else if (form == 1) {
#define WEFT_STEP(LOAD, STORE) WEFT_TO(STORE, WEFT_F_ADD(LOAD(z + i), LOAD(kept + i)))
        WEFT_EACH
#undef WEFT_STEP
    } else {
#define WEFT_STEP(LOAD, STORE) WEFT_TO(STORE, WEFT_F_SUB(LOAD(z + i), LOAD(kept + i)))
        WEFT_EACH
#undef WEFT_STEP
    }
#undef WEFT_TO
    WEFT_STORE(lanes, WEFT_I_TO_F(most));
    for (i = 0; i < WEFT_LANES; i++) {
        bits = weft_load_u32(lanes + i);
        if (bits > result) result = bits;
    }
    return result;
}

/* The draws are those of weft_draw. What is coded is a fixed-point number with 24 places. */
WEFT_KERNEL void WEFT_K(codec_quantise)(size_t n, const float *t, float step, float places, uint64_t key, int form,
                                        void *kepts, uint8_t *code) {
    float *kept = (float *)kepts;
    const WEFT_F vstep = WEFT_F_SET(step), vplaces = WEFT_F_SET(places);
    const WEFT_I high = WEFT_I_SET((uint32_t)(key >> 32)), mul1 = WEFT_I_SET(WEFT_DRAW_MUL1),
                 mul2 = WEFT_I_SET(WEFT_DRAW_MUL2), next = WEFT_I_SET(WEFT_DRAW_STEP * WEFT_LANES);
    WEFT_I count = WEFT_I_MUL(WEFT_I_LOAD16(weft_draw_lanes), WEFT_I_SET(WEFT_DRAW_STEP));
    size_t i;
    count = WEFT_I_ADD(count, WEFT_I_SET((uint32_t)(key & 0xFFFFFFFFu)));
/* t is read in whole vectors: it has room for them */
#define WEFT_CODE                                                                                                      \
    const WEFT_F v = WEFT_F_LOAD(t + i);                                                                               \
    const WEFT_I x1 = WEFT_I_ADD(WEFT_I_MUL(WEFT_I_XOR(count, WEFT_I_SHR(count, 16)), mul1), high);                    \
    const WEFT_I x2 = WEFT_I_MUL(WEFT_I_XOR(x1, WEFT_I_SHR(x1, 15)), mul2);                                            \
    const WEFT_I u = WEFT_I_SHR(WEFT_I_XOR(x2, WEFT_I_SHR(x2, 15)), 8);                                                \
    const WEFT_I y = WEFT_I_FROM_F(WEFT_F_MUL(v, vplaces));                                                            \
    const WEFT_I c = WEFT_I_SRA(WEFT_I_ADD(y, u), 24);                                                                 \
    count = WEFT_I_ADD(count, next);                                                                                   \
    WEFT_I_STORE8(code + i, c);
    if (form == 0) {
        for (i = 0; i < n; i += WEFT_LANES) {
            WEFT_CODE
        }
    } else if (form == 1) {
#define WEFT_STEP(LOAD, STORE)                                                                                         \
    {                                                                                                                  \
        WEFT_CODE                                                                                                      \
        STORE(kept + i, WEFT_F_SUB(v, WEFT_F_MUL(WEFT_F_FROM_I(c), vstep)));                                           \
    }
        WEFT_EACH_IN_ORDER
#undef WEFT_STEP
    } else {
#define WEFT_STEP(LOAD, STORE)                                                                                         \
    {                                                                                                                  \
        WEFT_CODE                                                                                                      \
        STORE(kept + i, WEFT_F_ADD(LOAD(kept + i), WEFT_F_MUL(WEFT_F_FROM_I(c), vstep)));                              \
    }
        WEFT_EACH_IN_ORDER
#undef WEFT_STEP
    }
#undef WEFT_CODE
}

#if WEFT_LANES > 1
WEFT_KERNEL WEFT_I WEFT_K(load8_rest)(const uint8_t *p, size_t m) {
    uint8_t rest[WEFT_LANES];
    memset(rest, 0, sizeof rest);
    memcpy(rest, p, m);
    return WEFT_I_LOAD8(rest);
}
#define WEFT_LOAD8_REST(p) WEFT_K(load8_rest)(p, part)
#define WEFT_EACH8                                                                                                     \
    for (i = 0; n - i >= WEFT_LANES; i += WEFT_LANES) WEFT_STEP(WEFT_LOAD, WEFT_STORE, WEFT_I_LOAD8)                   \
    if (i < n) {                                                                                                       \
        const size_t part = n - i;                                                                                     \
        WEFT_STEP(WEFT_LOAD_REST, WEFT_STORE_REST, WEFT_LOAD8_REST)                                                    \
    }
#else
#define WEFT_EACH8 for (i = 0; i < n; i++) WEFT_STEP(WEFT_LOAD, WEFT_STORE, WEFT_I_LOAD8)
#endif

WEFT_KERNEL void WEFT_K(codec_expand)(size_t n, const uint8_t *code, float step, float w, int add, void *outs) {
    float *out = (float *)outs;
    const WEFT_F vstep = WEFT_F_SET(step), vw = WEFT_F_SET(w);
    size_t i;
    if (add) {
#define WEFT_STEP(LOAD, STORE, LOAD8)                                                                                  \
    {                                                                                                                  \
        const WEFT_F q = WEFT_F_MUL(WEFT_F_FROM_I(LOAD8(code + i)), vstep);                                            \
        STORE(out + i, WEFT_F_ADD(LOAD(out + i), WEFT_F_MUL(vw, q)));                                                  \
    }
        WEFT_EACH8
#undef WEFT_STEP
    } else {
#define WEFT_STEP(LOAD, STORE, LOAD8) { STORE(out + i, WEFT_F_MUL(WEFT_F_FROM_I(LOAD8(code + i)), vstep)); }
        WEFT_EACH8
#undef WEFT_STEP
    }
}

WEFT_KERNEL unsigned WEFT_K(codec_lanes_between)(WEFT_F v, WEFT_I magnitude, WEFT_I lower, WEFT_I upper) {
    const WEFT_I a = WEFT_I_AND(WEFT_F_TO_I(v), magnitude);
    return WEFT_I_MASK(WEFT_I_GREATER(a, lower)) & ~WEFT_I_MASK(WEFT_I_GREATER(a, upper));
}

WEFT_KERNEL uint32_t WEFT_K(codec_between)(size_t n, const float *t, uint32_t least, uint32_t most, uint32_t *word) {
    const WEFT_I magnitude = WEFT_I_SET(0x7FFFFFFFu), lower = WEFT_I_SET(least), upper = WEFT_I_SET(most);
    const float *p;
    float rest[32];
    uint32_t any = 0, bits;
    size_t i;
#define WEFT_AT(j) (uint32_t)WEFT_K(codec_lanes_between)(WEFT_F_LOAD(p + (j)), magnitude, lower, upper) << (j)
#if WEFT_LANES == 16
#define WEFT_WORD bits = WEFT_AT(0) | WEFT_AT(16);
#elif WEFT_LANES == 8
#define WEFT_WORD bits = WEFT_AT(0) | WEFT_AT(8) | WEFT_AT(16) | WEFT_AT(24);
#elif WEFT_LANES == 4
#define WEFT_WORD                                                                                                      \
    bits = WEFT_AT(0) | WEFT_AT(4) | WEFT_AT(8) | WEFT_AT(12);                                                         \
    bits |= WEFT_AT(16) | WEFT_AT(20) | WEFT_AT(24) | WEFT_AT(28);
#else
#define WEFT_WORD                                                                                                      \
    {                                                                                                                  \
        size_t j;                                                                                                      \
        for (bits = 0, j = 0; j < 32; j += WEFT_LANES) bits |= WEFT_AT(j);                                             \
    }
#endif
    for (i = 0; n - i >= 32; i += 32) {
        p = t + i;
        WEFT_WORD
        word[i / 32] = bits;
        any |= bits;
    }
    if (i < n) {
        memset(rest, 0, sizeof rest); /* below any limit */
        memcpy(rest, t + i, (n - i) * sizeof *t);
        p = rest;
        WEFT_WORD
        word[i / 32] = bits;
        any |= bits;
    }
#undef WEFT_AT
#undef WEFT_WORD
    return any != 0;
}
#undef WEFT_LOAD8_REST
#undef WEFT_EACH8
#undef WEFT_EACH_IN_ORDER
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
#undef WEFT_I_XOR
#undef WEFT_I_MUL
#undef WEFT_I_SRA
#undef WEFT_I_LOAD8
#undef WEFT_I_STORE8
#undef WEFT_I_FROM_F
#undef WEFT_F_FROM_I
#undef WEFT_I_MAX
#undef WEFT_I_MASK
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
/* For codecs. I_LOAD8, I_STORE8: signed 8-bit integers. I_MASK: bit i is lane i of what I_GREATER says. I_MAX: of
 * values below 2^31. I_FROM_F: towards zero, called with what fits; F_FROM_I: of signed integers, exact up to 2^24.
 * I_SRA: with the sign. I_MUL: the low 32 bits. */
#define WEFT_I_XOR(a, b) ((a) ^ (b))
#define WEFT_I_MUL(a, b) ((a) * (b))
#define WEFT_I_SRA(a, n) ((a) >> (n) | (0u - ((a) >> 31)) << (32 - (n)))
#define WEFT_I_LOAD8(p) (((uint32_t)*(p) ^ 0x80u) - 0x80u)
#define WEFT_I_STORE8(p, v) (void)(*(p) = (uint8_t)((v) & 0xFFu))
#define WEFT_I_FROM_F(v) ((uint32_t)(int32_t)(v))
#define WEFT_F_FROM_I(v) ((float)(int32_t)(v))
#define WEFT_I_MAX(a, b) ((a) > (b) ? (a) : (b))
#define WEFT_I_MASK(mask) ((mask) ? 1u : 0u)

#define WEFT_ELEMENT 32
#include SADDLE_HEADER
#define WEFT_ELEMENT 64
#include SADDLE_HEADER

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
#define WEFT_I_XOR(a, b) _mm_xor_si128(a, b)
#define WEFT_I_MUL(a, b) weft_sse2_mul32(a, b)
#define WEFT_I_SRA(a, n) _mm_srai_epi32(a, n)
#define WEFT_I_LOAD8(p) weft_sse2_load8(p)
#define WEFT_I_STORE8(p, v) weft_sse2_store8(p, v)
#define WEFT_I_FROM_F(v) _mm_cvttps_epi32(v)
#define WEFT_F_FROM_I(v) _mm_cvtepi32_ps(v)
#define WEFT_I_MAX(a, b) weft_sse2_select(_mm_cmpgt_epi32(a, b), a, b)
#define WEFT_I_MASK(mask) (unsigned)_mm_movemask_ps(_mm_castsi128_ps(mask))

#if WEFT_FAMILY == WEFT_CODEC_FAMILY
WEFT_KERNEL __m128i weft_sse2_mul32(__m128i a, __m128i b) {
    const __m128i even = _mm_mul_epu32(a, b), odd = _mm_mul_epu32(_mm_srli_epi64(a, 32), _mm_srli_epi64(b, 32));
    return _mm_unpacklo_epi32(_mm_shuffle_epi32(even, 0x08), _mm_shuffle_epi32(odd, 0x08));
}

WEFT_KERNEL __m128i weft_sse2_load8(const uint8_t *p) {
    __m128i v = _mm_cvtsi32_si128((int)weft_load_u32(p));
    v = _mm_unpacklo_epi8(v, v);
    return _mm_srai_epi32(_mm_unpacklo_epi16(v, v), 24);
}

WEFT_KERNEL void weft_sse2_store8(uint8_t *p, __m128i v) {
    int packed;
    v = _mm_packs_epi32(v, v);
    packed = _mm_cvtsi128_si32(_mm_packs_epi16(v, v));
    memcpy(p, &packed, sizeof packed);
}
#endif

#if WEFT_FAMILY == WEFT_CORE_FAMILY
WEFT_KERNEL __m128i weft_sse2_select(__m128i mask, __m128i a, __m128i b) {
    return _mm_or_si128(_mm_and_si128(mask, a), _mm_andnot_si128(mask, b));
}
#endif

#define WEFT_ELEMENT 32
#include SADDLE_HEADER
#define WEFT_ELEMENT 64
#include SADDLE_HEADER

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
#define WEFT_I_XOR(a, b) _mm256_xor_si256(a, b)
#define WEFT_I_MUL(a, b) _mm256_mullo_epi32(a, b)
#define WEFT_I_SRA(a, n) _mm256_srai_epi32(a, n)
#define WEFT_I_LOAD8(p) _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p)))
#define WEFT_I_STORE8(p, v) weft_avx2_store8(p, v)
#define WEFT_I_FROM_F(v) _mm256_cvttps_epi32(v)
#define WEFT_F_FROM_I(v) _mm256_cvtepi32_ps(v)
#define WEFT_I_MAX(a, b) _mm256_max_epi32(a, b)
#define WEFT_I_MASK(mask) (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(mask))

#if WEFT_FAMILY == WEFT_CODEC_FAMILY
WEFT_KERNEL void weft_avx2_store8(uint8_t *p, __m256i v) {
    const __m128i half = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    _mm_storel_epi64((__m128i *)(void *)p, _mm_packs_epi16(half, half));
}
#endif

#define WEFT_ELEMENT 32
#include SADDLE_HEADER
#define WEFT_ELEMENT 64
#include SADDLE_HEADER

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
#define WEFT_I_XOR(a, b) _mm512_xor_si512(a, b)
#define WEFT_I_MUL(a, b) _mm512_mullo_epi32(a, b)
#define WEFT_I_SRA(a, n) _mm512_srai_epi32(a, n)
#define WEFT_I_LOAD8(p) _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p)))
#define WEFT_I_STORE8(p, v) _mm_storeu_si128((__m128i *)(void *)(p), _mm512_cvtepi32_epi8(v))
#define WEFT_I_FROM_F(v) _mm512_cvttps_epi32(v)
#define WEFT_F_FROM_I(v) _mm512_cvtepi32_ps(v)
#define WEFT_I_MAX(a, b) _mm512_max_epi32(a, b)
#define WEFT_I_MASK(mask) (unsigned)(mask)

#define WEFT_ELEMENT 32
#include SADDLE_HEADER
#define WEFT_ELEMENT 64
#include SADDLE_HEADER

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
#define WEFT_I_XOR(a, b) veorq_u32(a, b)
#define WEFT_I_MUL(a, b) vmulq_u32(a, b)
#define WEFT_I_SRA(a, n) vreinterpretq_u32_s32(vshrq_n_s32(vreinterpretq_s32_u32(a), n))
#define WEFT_I_LOAD8(p) weft_neon_load8(p)
#define WEFT_I_STORE8(p, v) weft_neon_store8(p, v)
#define WEFT_I_FROM_F(v) vreinterpretq_u32_s32(vcvtq_s32_f32(v))
#define WEFT_F_FROM_I(v) vcvtq_f32_s32(vreinterpretq_s32_u32(v))
#define WEFT_I_MAX(a, b) vmaxq_u32(a, b)
#define WEFT_I_MASK(mask) weft_neon_mask(mask)

#if WEFT_FAMILY == WEFT_CODEC_FAMILY
WEFT_KERNEL uint32x4_t weft_neon_load8(const uint8_t *p) {
    const int8x8_t bytes = vreinterpret_s8_u32(vdup_n_u32(weft_load_u32(p)));
    return vreinterpretq_u32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))));
}

WEFT_KERNEL void weft_neon_store8(uint8_t *p, uint32x4_t v) {
    const uint16x4_t half = vmovn_u32(v);
    const uint32_t packed = vget_lane_u32(vreinterpret_u32_u8(vmovn_u16(vcombine_u16(half, half))), 0);
    memcpy(p, &packed, sizeof packed);
}

WEFT_KERNEL unsigned weft_neon_mask(uint32x4_t mask) {
    static const uint32_t bit[4] = {1u, 2u, 4u, 8u};
    return vaddvq_u32(vandq_u32(mask, vld1q_u32(bit)));
}
#endif

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
#include SADDLE_HEADER
#define WEFT_ELEMENT 64
#include SADDLE_HEADER

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
#define WEFT_I_XOR(a, b) wasm_v128_xor(a, b)
#define WEFT_I_MUL(a, b) wasm_i32x4_mul(a, b)
#define WEFT_I_SRA(a, n) wasm_i32x4_shr(a, n)
#define WEFT_I_LOAD8(p) weft_wasm_load8(p)
#define WEFT_I_STORE8(p, v) weft_wasm_store8(p, v)
#define WEFT_I_FROM_F(v) wasm_i32x4_trunc_sat_f32x4(v)
#define WEFT_F_FROM_I(v) wasm_f32x4_convert_i32x4(v)
#define WEFT_I_MAX(a, b) wasm_u32x4_max(a, b)
#define WEFT_I_MASK(mask) (unsigned)wasm_i32x4_bitmask(mask)

#if WEFT_FAMILY == WEFT_CODEC_FAMILY
/* clang 14 moves a load that becomes a vector at once past stores to the same place: this one is an operand first. */
WEFT_KERNEL v128_t weft_wasm_load8(const uint8_t *p) {
    const v128_t bytes = wasm_i32x4_splat((int32_t)(weft_load_u32(p) ^ 0x80808080u));
    return wasm_i32x4_sub(wasm_u32x4_extend_low_u16x8(wasm_u16x8_extend_low_u8x16(bytes)), wasm_i32x4_splat(128));
}

WEFT_KERNEL void weft_wasm_store8(uint8_t *p, v128_t v) {
    v = wasm_i16x8_narrow_i32x4(v, v);
    wasm_v128_store32_lane(p, wasm_i8x16_narrow_i16x8(v, v), 0);
}
#endif

#define WEFT_ELEMENT 32
#include SADDLE_HEADER
#define WEFT_ELEMENT 64
#include SADDLE_HEADER

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

#else /* WEFT_DEVICE_CODEC */

/* ---- src/weft/kernels/cuda_codec.h: section -------------------------------------------------- */

/* Codecs (codec.h) on device pointers, with the bytes and bits of the serial kernels: tensors, what is kept of them and
 * messages are device memory, messages of any alignment. A block of the codec is done by a block of threads, an element
 * by a thread. What comes of a launch is in a state that is fetched with the host's next wait. */

enum { WEFT_DEVICE_BINS = 2048, WEFT_DEVICE_CELLS = WEFT_DEVICE_THREADS + WEFT_DEVICE_THREADS / 32 };

/* Zero before each work; those that find something add to it. */
typedef struct weft_device_found {
    weft_device_word nonfinite; /* elements that were left out; values of a message */
    weft_device_word index;     /* of a message: one that does not follow, plus 1 */
    weft_device_word zeros;     /* SIGN: elements that are 0 */
    weft_device_word pairs;     /* what the blocks' counts add up to */
    weft_device_word bits;      /* TOPK: the magnitude of this rank, ... */
    weft_device_word left, same; /* ... the rank among those of this magnitude, and how many there are */
    weft_device_word last;      /* ... and where it is, plus 1 */
} weft_device_found;

/* What a launch is told. */
typedef struct weft_device_code {
    weft_device_job sum; /* of works with sums; else only n, `own` and dtype count */
    weft_codec_kind kind;
    weft_codec_form form;
    unsigned bits, shift, width;
    int add, equal, squares;
    size_t first; /* element of the tensor with which the chunk begins */
    const void *z;
    void *kept, *out;
    const double *uniform;
    uint64_t key, least;
    size_t last, bytes, pairs; /* bytes: of the message */
    double step, norm, weight;
    unsigned char *message;
    weft_device_found *found;
    unsigned *bin, *count; /* count: one a block */
} weft_device_code;

/* ---- values in messages ---- */
WEFT_DEVICE void weft_device_put16(unsigned char *p, unsigned v) {
    p[0] = (unsigned char)(v & 0xFFu);
    p[1] = (unsigned char)(v >> 8 & 0xFFu);
}
WEFT_DEVICE unsigned weft_device_get16(const unsigned char *p) {
    return p[0] | (unsigned)p[1] << 8;
}
WEFT_DEVICE void weft_device_put32(unsigned char *p, unsigned v) {
    if ((uintptr_t)p % 4 == 0) {
        *(unsigned *)(void *)p = v;
    } else {
        weft_device_put16(p, v);
        weft_device_put16(p + 2, v >> 16);
    }
}
WEFT_DEVICE unsigned weft_device_get32(const unsigned char *p) {
    if ((uintptr_t)p % 4 == 0) return *(const unsigned *)(const void *)p;
    return weft_device_get16(p) | weft_device_get16(p + 2) << 16;
}
WEFT_DEVICE void weft_device_put_value(unsigned char *p, float v) {
    weft_device_put32(p, __float_as_uint(v));
}
WEFT_DEVICE void weft_device_put_value(unsigned char *p, double v) {
    const uint64_t b = weft_device_bits(v);
    weft_device_put32(p, (unsigned)(b & 0xFFFFFFFFu));
    weft_device_put32(p + 4, (unsigned)(b >> 32));
}
WEFT_DEVICE void weft_device_get_value(const unsigned char *p, float *v) {
    *v = __uint_as_float(weft_device_get32(p));
}
WEFT_DEVICE void weft_device_get_value(const unsigned char *p, double *v) {
    *v = __longlong_as_double((long long)(weft_device_get32(p) | (uint64_t)weft_device_get32(p + 4) << 32));
}
WEFT_DEVICE uint64_t weft_device_magnitude(float v) {
    return weft_device_bits(v) & 0x7FFFFFFFu;
}
WEFT_DEVICE uint64_t weft_device_magnitude(double v) {
    return weft_device_bits(v) & UINT64_C(0x7FFFFFFFFFFFFFFF);
}
WEFT_DEVICE unsigned weft_device_is_minus(float v) {
    return (unsigned)(weft_device_bits(v) >> 31);
}
WEFT_DEVICE unsigned weft_device_is_minus(double v) {
    return (unsigned)(weft_device_bits(v) >> 63);
}

/* As weft_draw, weft_codec_block_key. */
WEFT_DEVICE uint64_t weft_device_block_key(uint64_t key, size_t at) {
    return weft_device_mix(key + WEFT_HASH_KEY * ((uint64_t)(at / WEFT_CODEC_BLOCK) + 1));
}
WEFT_DEVICE unsigned weft_device_draw(uint64_t key, unsigned i) {
    unsigned x = i * WEFT_DRAW_STEP + (unsigned)(key & 0xFFFFFFFFu);
    x = (x ^ x >> 16) * WEFT_DRAW_MUL1 + (unsigned)(key >> 32);
    x = (x ^ x >> 15) * WEFT_DRAW_MUL2;
    return x ^ x >> 15;
}

/* Element i of t = z, z + kept or z - kept; what is not finite is left out, and counted. */
template <typename T> WEFT_DEVICE T weft_device_code_of(const weft_device_code &j, size_t i, unsigned *bad) {
    T t, kept = 0;
    weft_device_load<1>(j.sum.dtype, j.z, i, &t);
    if (j.form) kept = ((const T *)j.kept)[i];
    if (j.form == WEFT_CODEC_FEEDBACK) t = weft_device_add(t, kept);
    if (j.form == WEFT_CODEC_DIFFERENCE) t = weft_device_sub(t, kept);
    if (!weft_device_nonfinite(t)) return t;
    ++*bad;
    return j.form == WEFT_CODEC_FEEDBACK && !weft_device_nonfinite(kept) ? kept : (T)0;
}

template <typename T> WEFT_DEVICE int weft_device_is_sent(const weft_device_code &j, T t, size_t i) {
    const uint64_t m = weft_device_magnitude(t);
    return j.equal ? m == j.least : m > j.least || (m == j.least && i <= j.last);
}

/* ---- counting, block by block, and where each block's begin ---- */

/* How many of the block's threads before this one say yes; *all: of all its threads. Cells of warps are free after the
 * caller's next barrier. */
WEFT_DEVICE unsigned weft_device_before(unsigned *cell, int yes, unsigned *all) {
    const unsigned ballot = __ballot_sync(0xFFFFFFFFu, yes), lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    unsigned before = (unsigned)__popc(ballot & ((1u << lane) - 1u));
    if (lane == 0) cell[warp] = (unsigned)__popc(ballot);
    __syncthreads(); /* all warps have counted */
    *all = 0;
    for (unsigned w = 0; w < WEFT_DEVICE_THREADS / 32; w++) {
        if (w < warp) before += cell[w];
        *all += cell[w];
    }
    return before;
}

template <typename T>
static __global__ void __launch_bounds__(WEFT_DEVICE_THREADS) weft_device_code_counts(const weft_device_code j) {
    WEFT_SHARED(unsigned, weft_shared_cells);
    unsigned *const cell = weft_shared_cells;
    for (size_t at = (size_t)blockIdx.x * WEFT_CODEC_BLOCK; at < j.sum.n; at += (size_t)gridDim.x * WEFT_CODEC_BLOCK) {
        const size_t i = at + threadIdx.x;
        unsigned bad = 0, all;
        const int yes =
            i < j.sum.n && weft_device_is_sent(j, weft_device_code_of<T>(j, j.first + i, &bad), j.first + i);
        weft_device_before(cell, yes, &all);
        if (threadIdx.x == 0) j.count[at / WEFT_CODEC_BLOCK] = all;
        __syncthreads(); /* the cells are free */
    }
}

/* From counts to where they begin; by one block of threads. */
static __global__ void __launch_bounds__(WEFT_DEVICE_THREADS) weft_device_code_places(const weft_device_code j) {
    WEFT_SHARED(unsigned, weft_shared_cells);
    unsigned *const cell = weft_shared_cells;
    const size_t blocks = (j.sum.n - 1) / WEFT_CODEC_BLOCK + 1;
    unsigned begin = 0;
    for (size_t b = 0; b < blocks; b += WEFT_DEVICE_THREADS) {
        const unsigned own = b + threadIdx.x < blocks ? j.count[b + threadIdx.x] : 0;
        unsigned sum = own;
        cell[threadIdx.x] = sum;
        __syncthreads();
        for (unsigned far = 1; far < WEFT_DEVICE_THREADS; far *= 2) {
            if (threadIdx.x >= far) sum += cell[threadIdx.x - far];
            __syncthreads(); /* read by all */
            cell[threadIdx.x] = sum;
            __syncthreads();
        }
        if (b + threadIdx.x < blocks) j.count[b + threadIdx.x] = begin + sum - own;
        begin += cell[WEFT_DEVICE_THREADS - 1];
        __syncthreads();
    }
    if (threadIdx.x == 0) j.found->pairs = begin;
}

/* ---- what must be known of the whole tensor ---- */

/* Into the bins: the magnitudes whose bits above shift + width are those of `bits`, by the bits from shift on. */
template <typename T>
static __global__ void __launch_bounds__(WEFT_DEVICE_THREADS) weft_device_code_bins(const weft_device_code j) {
    WEFT_SHARED(unsigned, weft_shared_bins);
    unsigned *const bin = weft_shared_bins;
    const uint64_t above = j.found->bits >> j.shift >> j.width;
    unsigned bad = 0;
    for (unsigned i = threadIdx.x; i < WEFT_DEVICE_BINS; i += WEFT_DEVICE_THREADS) bin[i] = 0;
    __syncthreads();
    for (size_t i = (size_t)blockIdx.x * WEFT_DEVICE_THREADS + threadIdx.x; i < j.sum.n;
         i += (size_t)gridDim.x * WEFT_DEVICE_THREADS) {
        const uint64_t m = weft_device_magnitude(weft_device_code_of<T>(j, i, &bad));
        if (m >> j.shift >> j.width == above) atomicAdd(&bin[m >> j.shift & ((1u << j.width) - 1u)], 1u);
    }
    __syncthreads(); /* all is in the bins */
    for (unsigned i = threadIdx.x; i < WEFT_DEVICE_BINS; i += WEFT_DEVICE_THREADS)
        if (bin[i]) atomicAdd(&j.bin[i], bin[i]);
    if (bad && j.equal) atomicAdd(&j.found->nonfinite, (weft_device_word)bad); /* in one of the passes */
}

/* The bin in which the rank `left` lies, counted from the highest; empties the bins. By one block of threads. */
static __global__ void __launch_bounds__(WEFT_DEVICE_THREADS) weft_device_code_bin(const weft_device_code j) {
    WEFT_SHARED(unsigned, weft_shared_cells);
    unsigned *const cell = weft_shared_cells;
    enum { EACH = WEFT_DEVICE_BINS / WEFT_DEVICE_THREADS };
    unsigned *const own = j.bin + (WEFT_DEVICE_THREADS - 1 - threadIdx.x) * EACH; /* the first has the highest */
    const weft_device_word left = j.found->left;
    weft_device_word above = 0;
    unsigned sum = 0;
    for (unsigned i = 0; i < EACH; i++) sum += own[i];
    cell[threadIdx.x] = sum;
    __syncthreads(); /* all sums are there, and `left` has been read */
    for (unsigned i = 0; i < threadIdx.x; i++) above += cell[i];
    if (above < left && left <= above + sum) {
        unsigned i = EACH;
        while (above + own[--i] < left) above += own[i];
        j.found->bits |= (weft_device_word)((WEFT_DEVICE_THREADS - 1 - threadIdx.x) * EACH + i) << j.shift;
        j.found->left = left - above;
        j.found->same = own[i];
    }
    for (unsigned i = 0; i < EACH; i++) own[i] = 0;
}

/* Where the `pairs`-th of those that were counted is. */
template <typename T>
static __global__ void __launch_bounds__(WEFT_DEVICE_THREADS) weft_device_code_where(const weft_device_code j) {
    WEFT_SHARED(unsigned, weft_shared_cells);
    unsigned *const cell = weft_shared_cells;
    for (size_t at = (size_t)blockIdx.x * WEFT_CODEC_BLOCK; at < j.sum.n; at += (size_t)gridDim.x * WEFT_CODEC_BLOCK) {
        const size_t i = at + threadIdx.x;
        unsigned bad = 0, all, before;
        const int yes = i < j.sum.n && weft_device_is_sent(j, weft_device_code_of<T>(j, i, &bad), i);
        before = weft_device_before(cell, yes, &all);
        if (yes && (size_t)j.count[at / WEFT_CODEC_BLOCK] + before + 1 == j.pairs) j.found->last = i + 1;
        __syncthreads();
    }
}

/* The sum of squares, or of magnitudes, as the kernels' contract has it. */
template <typename T>
static __global__ void __launch_bounds__(WEFT_DEVICE_THREADS) weft_device_code_sums(const weft_device_code j) {
    const unsigned lane = threadIdx.x % WEFT_LANES_OF_A_BLOCK, mine = threadIdx.x / WEFT_LANES_OF_A_BLOCK;
    const size_t pieces = (j.sum.blocks - 1) / WEFT_DEVICE_PIECE + 1;
    const weft_device_word epoch = ((const volatile weft_device_state *)j.sum.own.state)->epoch;
    for (;;) {
        const size_t piece = weft_device_take(j.sum.own.state), b = piece * WEFT_DEVICE_PIECE + mine;
        const size_t at = b * WEFT_BLOCK, end = j.sum.n - at < WEFT_BLOCK ? j.sum.n : at + WEFT_BLOCK;
        double sum = 0.0;
        unsigned bad = 0;
        if (piece >= pieces) break;
        if (b < j.sum.blocks)
            for (size_t i = at + lane; i < end; i += WEFT_LANES_OF_A_BLOCK) {
                const T t = weft_device_code_of<T>(j, i, &bad);
                sum = j.squares ? weft_device_madd(sum, t, t)
                                : __dadd_rn(sum, weft_device_is_minus(t) ? -(double)t : (double)t);
            }
        if (bad) atomicAdd(&j.sum.own.state->count, (weft_device_word)bad);
        sum = weft_device_tree(sum);
        if (lane == 0 && b < j.sum.blocks) j.sum.own.slot[b] = sum;
        __syncthreads(); /* all blocks' sums are there */
        if (threadIdx.x < 32) weft_device_add_up(j.sum, pieces, piece, epoch);
    }
    weft_device_taken(j.sum.own.state);
}

/* ---- encoding ---- */

/* The step of a block, and what its elements are multiplied with, in the first two cells. As weft_codec_step_of. */
WEFT_DEVICE void weft_device_step_of(unsigned *cell, unsigned most, double s) {
    const double limit = WEFT_CODEC_F32_MAX / 128.0, least = 7.888609052210118e-31; /* 2^-100 */
    double top, step, places;
    for (unsigned half = 16; half; half /= 2) {
        const unsigned other = __shfl_down_sync(0xFFFFFFFFu, most, half);
        if (other > most) most = other;
    }
    if (threadIdx.x % 32 == 0) cell[threadIdx.x / 32] = most;
    __syncthreads(); /* all warps' largest are there */
    if (threadIdx.x == 0) {
        for (unsigned w = 1; w < WEFT_DEVICE_THREADS / 32; w++)
            if (cell[w] > most) most = cell[w];
        top = (double)__uint_as_float(most);
        step = __ddiv_rn(__dmul_rn(top, 1.0 + WEFT_CODEC_NUDGE), s);
        if (!most) {
            step = places = 0.0;
        } else if (step < least) {
            step = least;
            places = 16777216.0 / least;
        } else {
            if (step > limit) step = limit;
            places = __ddiv_rn(__dmul_rn(__dmul_rn(16777216.0, s), 1.0 - WEFT_CODEC_NUDGE), top);
        }
        cell[0] = __float_as_uint((float)step);
        cell[1] = __float_as_uint((float)places);
    }
    __syncthreads();
}

WEFT_DEVICE float weft_device_limited(float v, float limit) {
    return v > limit ? limit : v < -limit ? -limit : v;
}
WEFT_DEVICE float weft_device_limited(double v, float limit) {
    return v > (double)limit ? limit : v < -(double)limit ? -limit : (float)v;
}

/* Q8 and Q4: element i of m of the block; returns what stands for it. */
WEFT_DEVICE float weft_device_quantise(const weft_device_code &j, unsigned *cell, size_t block, size_t m, float t) {
    const int q8 = j.kind == WEFT_CODEC_Q8;
    const unsigned i = threadIdx.x;
    const size_t half = (m + 1) / 2, whole = 4 + (q8 ? WEFT_CODEC_BLOCK : WEFT_CODEC_BLOCK / 2);
    unsigned char *const p = j.message + block * whole;
    float step, places;
    unsigned u;
    int code;
    weft_device_step_of(cell, (unsigned)weft_device_magnitude(t), q8 ? 127.0 : 7.0);
    step = __uint_as_float(cell[0]);
    places = __uint_as_float(cell[1]);
    u = weft_device_draw(weft_device_block_key(j.key, j.first + block * WEFT_CODEC_BLOCK), i) >> 8;
    code = (int)((unsigned)(int)weft_device_mul(t, places) + u) >> 24;
    if (i == 0) weft_device_put32(p, cell[0]);
    if (q8) {
        if (i < m) p[4 + i] = (unsigned char)((unsigned)code & 0xFFu);
        return weft_device_mul((float)code, step);
    }
    __syncthreads(); /* step and places have been read */
    cell[i] = i < m ? (unsigned)code & 15u : 0u;
    __syncthreads(); /* all codes are there */
    if (i < half) p[4 + i] = (unsigned char)(cell[i] | cell[i + half] << 4);
    return weft_device_mul((float)code, step);
}

/* A field of QSGD: element i of the tensor. */
template <typename T> WEFT_DEVICE unsigned weft_device_level(const weft_device_code &j, T t, size_t i) {
    const unsigned s = (1u << j.bits) - 1u;
    const double v = (double)t, size = v < 0 ? -v : v;
    const double ratio = j.norm > 0 ? __ddiv_rn(__dmul_rn((double)s, size), j.norm) : 0.0;
    double u;
    unsigned level = ratio < (double)s ? (unsigned)ratio : s;
    if (j.uniform)
        u = j.uniform[i];
    else
        u = (double)(weft_device_draw(weft_device_block_key(j.key, i), (unsigned)(i % WEFT_CODEC_BLOCK)) >> 8) /
            16777216.0;
    if (level < s && u < __dsub_rn(ratio, (double)level)) level++;
    return level << 1 | (unsigned)(level != 0 && v < 0);
}

template <typename T> WEFT_DEVICE T weft_device_of_level(unsigned v, double step) {
    const T level = (T)(v >> 1);
    return weft_device_mul(v & 1u ? -level : level, (T)step);
}

/* Fields of `bits` bits, one a cell, to bytes: the lowest bits first. */
WEFT_DEVICE void weft_device_write_bits(const unsigned *cell, unsigned bits, size_t fields, unsigned char *p) {
    const size_t bytes = (fields * bits + 7) / 8;
    for (size_t b = threadIdx.x; b < bytes; b += WEFT_DEVICE_THREADS) {
        const size_t at = 8 * b;
        unsigned v = 0;
        for (size_t f = at / bits; f < fields && f * bits < at + 8; f++)
            v |= f * bits >= at ? cell[f] << (f * bits - at) : cell[f] >> (at - f * bits);
        p[b] = (unsigned char)(v & 0xFFu);
    }
}

template <typename T>
static __global__ void __launch_bounds__(WEFT_DEVICE_THREADS) weft_device_encode(const weft_device_code j) {
    WEFT_SHARED(unsigned, weft_shared_cells);
    unsigned *const cell = weft_shared_cells;
    const size_t each = sizeof(T);
    for (size_t at = (size_t)blockIdx.x * WEFT_CODEC_BLOCK; at < j.sum.n; at += (size_t)gridDim.x * WEFT_CODEC_BLOCK) {
        const size_t left = j.sum.n - at, m = left < WEFT_CODEC_BLOCK ? left : WEFT_CODEC_BLOCK;
        const unsigned i = threadIdx.x;
        const size_t element = j.first + at + i;
        const int in = i < m;
        unsigned char *p = j.message;
        unsigned bad = 0;
        int sent = in; /* something stands for it, if only zero */
        T t = 0, q = 0;
        if (in) t = weft_device_code_of<T>(j, element, &bad);
        if (bad) atomicAdd(&j.found->nonfinite, (weft_device_word)bad);
        switch (j.kind) {
        case WEFT_CODEC_IDENTITY:
            if (in) weft_device_put_value(p + (at + i) * each, t);
            q = t;
            break;
        case WEFT_CODEC_BF16:
        case WEFT_CODEC_F16: {
            const weft_dtype narrow = j.kind == WEFT_CODEC_BF16 ? WEFT_BF16 : WEFT_F16;
            const float limit = narrow == WEFT_BF16 ? __uint_as_float(0x7F7F0000u) : 65504.0f;
            const uint16_t h = weft_device_narrow(narrow, weft_device_limited(t, limit));
            if (in) weft_device_put16(p + (at + i) * 2, h);
            q = (T)weft_device_widen(narrow, h);
            break;
        }
        case WEFT_CODEC_Q8:
        case WEFT_CODEC_Q4:
            q = (T)weft_device_quantise(j, cell, at / WEFT_CODEC_BLOCK, m,
                                        weft_device_limited(t, (float)WEFT_CODEC_F32_MAX));
            break;
        case WEFT_CODEC_QSGD:
            if (element == j.first) weft_device_put_value(p, (T)j.step);
            cell[i] = in ? weft_device_level(j, t, element) : 0u;
            q = weft_device_of_level<T>(cell[i], j.step);
            __syncthreads(); /* all fields are there */
            weft_device_write_bits(cell, j.bits + 1, m, p + each + at / 8 * (j.bits + 1));
            break;
        case WEFT_CODEC_SIGN: {
            const unsigned none = in && weft_device_magnitude(t) == 0, lane = i % 32;
            const unsigned minus = __ballot_sync(0xFFFFFFFFu, in && weft_device_is_minus(t));
            const unsigned zeros = __ballot_sync(0xFFFFFFFFu, (int)none);
            if (element == j.first) weft_device_put_value(p, (T)j.step);
            p += each + 4;
            if (lane < 4 && (i - lane) + 8 * lane < m) {
                const size_t byte = (at + i - lane) / 8 + lane;
                p[byte] = (unsigned char)(minus >> 8 * lane & 0xFFu);
                p[(j.sum.n + 7) / 8 + byte] = (unsigned char)(zeros >> 8 * lane & 0xFFu);
            }
            if (lane == 0 && zeros) atomicAdd(&j.found->zeros, (weft_device_word)__popc(zeros));
            if (!none) q = weft_device_is_minus(t) ? -(T)j.step : (T)j.step;
            break;
        }
        case WEFT_CODEC_TOPK: {
            unsigned all, pair;
            sent = in && weft_device_is_sent(j, t, element);
            pair = weft_device_before(cell, sent, &all) + j.count[at / WEFT_CODEC_BLOCK];
            /* there is room for all if the data are those that have been measured */
            if (sent && (pair + (size_t)1) * (4 + each) <= j.bytes) {
                p += pair * (4 + each);
                weft_device_put32(p, (unsigned)(at + i));
                weft_device_put_value(p + 4, t);
            }
            if (sent) q = t;
            break;
        }
        }
        if (in && j.form == WEFT_CODEC_FEEDBACK) ((T *)j.kept)[element] = weft_device_sub(t, q);
        if (sent && j.form == WEFT_CODEC_DIFFERENCE)
            ((T *)j.kept)[element] = weft_device_add(((const T *)j.kept)[element], q);
        __syncthreads(); /* the cells are free */
    }
}

/* ---- decoding ---- */

/* Looks at a message of values, codes or pairs: are they finite, and do the pairs' indices ascend, below n? */
template <typename T>
static __global__ void __launch_bounds__(WEFT_DEVICE_THREADS) weft_device_inspect(const weft_device_code j) {
    const size_t each = sizeof(T), threads = (size_t)gridDim.x * WEFT_DEVICE_THREADS;
    const size_t me = (size_t)blockIdx.x * WEFT_DEVICE_THREADS + threadIdx.x;
    const unsigned char *const p = j.message;
    unsigned bad = 0;
    T v;
    switch (j.kind) {
    case WEFT_CODEC_TOPK:
        for (size_t i = me; i < j.pairs; i += threads) {
            const unsigned char *const pair = p + i * (4 + each);
            const unsigned index = weft_device_get32(pair);
            if (index >= j.sum.n || (i && index <= weft_device_get32(pair - (4 + each))))
                atomicExch(&j.found->index, (weft_device_word)index + 1);
            weft_device_get_value(pair + 4, &v);
            bad += weft_device_nonfinite(v);
        }
        break;
    case WEFT_CODEC_IDENTITY:
        for (size_t i = me; i < j.sum.n; i += threads) {
            weft_device_get_value(p + i * each, &v);
            bad += weft_device_nonfinite(v);
        }
        break;
    case WEFT_CODEC_BF16:
    case WEFT_CODEC_F16:
        for (size_t i = me; i < j.sum.n; i += threads)
            bad += weft_device_nonfinite(weft_device_widen(j.kind == WEFT_CODEC_BF16 ? WEFT_BF16 : WEFT_F16,
                                                           weft_device_get16(p + i * 2)));
        break;
    default: /* Q8, Q4: a step for each block */
        for (size_t i = me; i * WEFT_CODEC_BLOCK < j.sum.n; i += threads) {
            const size_t whole = 4 + (j.kind == WEFT_CODEC_Q8 ? WEFT_CODEC_BLOCK : WEFT_CODEC_BLOCK / 2);
            const float step = __uint_as_float(weft_device_get32(p + i * whole));
            bad += !(step >= 0 && (double)step <= WEFT_CODEC_F32_MAX / 128.0);
        }
        break;
    }
    if (bad) atomicAdd(&j.found->nonfinite, (weft_device_word)bad);
}

/* out = q, or out + weight * q */
template <typename T> WEFT_DEVICE void weft_device_take_in(const weft_device_code &j, size_t i, T q) {
    if (j.add) {
        T was;
        weft_device_load<1>(j.sum.dtype, j.out, i, &was);
        q = weft_device_add(was, weft_device_mul((T)j.weight, q));
    }
    weft_device_store<1>(j.sum.dtype, j.out, i, &q);
}

/* The pairs of TOPK. */
template <typename T>
static __global__ void __launch_bounds__(WEFT_DEVICE_THREADS) weft_device_decode_pairs(const weft_device_code j) {
    const size_t threads = (size_t)gridDim.x * WEFT_DEVICE_THREADS;
    for (size_t i = (size_t)blockIdx.x * WEFT_DEVICE_THREADS + threadIdx.x; i < j.pairs; i += threads) {
        const unsigned char *const pair = j.message + i * (4 + sizeof(T));
        T q;
        weft_device_get_value(pair + 4, &q);
        weft_device_take_in(j, j.first + weft_device_get32(pair), q);
    }
}

/* All other messages. */
template <typename T>
static __global__ void __launch_bounds__(WEFT_DEVICE_THREADS) weft_device_decode(const weft_device_code j) {
    const size_t each = sizeof(T), threads = (size_t)gridDim.x * WEFT_DEVICE_THREADS;
    for (size_t i = (size_t)blockIdx.x * WEFT_DEVICE_THREADS + threadIdx.x; i < j.sum.n; i += threads) {
        const size_t in = i % WEFT_CODEC_BLOCK, at = i - in, left = j.sum.n - at;
        const unsigned char *p = j.message;
        T q;
        switch (j.kind) {
        case WEFT_CODEC_IDENTITY: weft_device_get_value(p + i * each, &q); break;
        case WEFT_CODEC_BF16: q = (T)weft_device_widen(WEFT_BF16, weft_device_get16(p + i * 2)); break;
        case WEFT_CODEC_F16: q = (T)weft_device_widen(WEFT_F16, weft_device_get16(p + i * 2)); break;
        case WEFT_CODEC_Q8:
            p += at / WEFT_CODEC_BLOCK * (4 + WEFT_CODEC_BLOCK);
            q = (T)weft_device_mul((float)(int8_t)p[4 + in], __uint_as_float(weft_device_get32(p)));
            break;
        case WEFT_CODEC_Q4: {
            const size_t half = ((left < WEFT_CODEC_BLOCK ? left : WEFT_CODEC_BLOCK) + 1) / 2;
            p += at / WEFT_CODEC_BLOCK * (4 + WEFT_CODEC_BLOCK / 2);
            const unsigned v = in < half ? p[4 + in] & 15u : (unsigned)p[4 + in - half] >> 4;
            q = (T)weft_device_mul((float)((int)(v ^ 8u) - 8), __uint_as_float(weft_device_get32(p)));
            break;
        }
        case WEFT_CODEC_QSGD: {
            const size_t first = in * (j.bits + 1), byte = each + at / 8 * (j.bits + 1) + first / 8;
            unsigned v = 0;
            for (unsigned b = 0; b < 3 && byte + b < j.bytes; b++) v |= (unsigned)p[byte + b] << 8 * b;
            q = weft_device_of_level<T>(v >> first % 8 & ((2u << j.bits) - 1u), j.step);
            break;
        }
        default: { /* SIGN; `equal`: with zeros */
            const unsigned char *const sign = p + each + 4, *const zero = sign + (j.sum.n + 7) / 8;
            q = sign[i / 8] >> i % 8 & 1u ? -(T)j.step : (T)j.step;
            if (j.equal && (zero[i / 8] >> i % 8 & 1u)) q = 0;
            break;
        }
        }
        weft_device_take_in(j, j.first + i, q);
    }
}

/* ---- on the host ---- */

/* The parts of the memory for tensors of at most n elements. Returns its bytes; 0: too many. */
WEFT_FN size_t weft_device_codec_layout(weft_device_code *j, unsigned char *base, size_t n) {
    weft_layout l;
    memset(&l, 0, sizeof l);
    l.base = base;
    j->found = (weft_device_found *)weft_layout_take(&l, "found", 1, sizeof *j->found);
    j->bin = (unsigned *)weft_layout_take(&l, "bins", WEFT_DEVICE_BINS, sizeof *j->bin);
    j->count = (unsigned *)weft_layout_take(&l, "counts", n / WEFT_CODEC_BLOCK + 1, sizeof *j->count);
    return weft_layout_total(&l);
}

/* Room for the works of codecs on tensors as large as those of the list. */
WEFT_FN void weft_gpu_codec_layout(weft_layout *l, weft_gpu *u, const weft_tensors *t) {
    weft_device_code j;
    size_t i, most = 0, bytes;
    if (!l->apart) return;
    for (i = 0; i < t->count; i++)
        if (t->tensor[i].count > most) most = t->tensor[i].count;
    if ((bytes = weft_device_codec_layout(&j, NULL, most)) == 0)
        l->overflow = 1;
    else
        u->codec = (unsigned char *)weft_layout_data(l, WEFT_TEXT("device codecs"), bytes, 1);
}

WEFT_FN weft_status weft_device_code_launch(weft_gpu *u, void (*kernel)(const weft_device_code), size_t blocks,
                                            size_t cells, const weft_device_code *j) {
    const unsigned most = u->device.grid, grid = blocks < 1 ? 1 : blocks < most ? (unsigned)blocks : most;
    cudaError_t e = cudaSuccess;
    WEFT_LAUNCH(e, kernel, grid, WEFT_DEVICE_THREADS, cells * sizeof(unsigned), u->device.stream, *j);
    return weft_device_said(&u->device, e);
}

/* Launches a kernel for the type with a block of threads for every 256 of n, and room for a cell of each, or bins. */
#define WEFT_DEVICE_CODE(u, kernel, n, cells, j)                                                                       \
    weft_gpu_note(u, weft_device_code_launch(u, (j)->sum.dtype == WEFT_F64 ? kernel<double> : kernel<float>,           \
                                             (n) / WEFT_CODEC_BLOCK + ((n) % WEFT_CODEC_BLOCK != 0), cells, j))

/* Begins a work on n elements from `first` on: nothing is found yet. */
WEFT_FN weft_device_code weft_device_code_make(weft_gpu *u, const weft_codec *c, weft_dtype t, size_t first, size_t n) {
    weft_device_code j;
    memset(&j, 0, sizeof j);
    weft_device_codec_layout(&j, u->codec, 0);
    j.kind = c->kind;
    j.bits = c->bits;
    j.first = first;
    j.sum.dtype = t;
    j.sum.n = n;
    j.sum.own = u->device;
    weft_data_zero(u, j.found, sizeof *j.found);
    return j;
}

WEFT_FN weft_device_code weft_device_code_job(weft_gpu *u, const weft_codec_job *of, size_t first, size_t n) {
    weft_device_code j = weft_device_code_make(u, of->codec, of->dtype, first, n);
    j.form = of->form;
    j.z = of->data;
    j.kept = of->kept;
    j.key = of->key;
    j.uniform = of->uniform;
    return j;
}

/* What has been found; all zero after a failure, of which the object tells. */
WEFT_FN weft_device_found weft_device_code_found(weft_gpu *u, const weft_device_code *j) {
    weft_device_found f;
    weft_gpu_move(u, &f, j->found, sizeof f, cudaMemcpyDeviceToHost);
    if (u->failed < 0) memset(&f, 0, sizeof f);
    return f;
}

/* As weft_codec_sum. */
WEFT_FN double weft_gpu_codec_sum(weft_gpu *u, const weft_codec_job *of, int squares, uint64_t *nonfinite) {
    weft_device_code j = weft_device_code_job(u, of, 0, of->count);
    weft_slot total[2];
    j.squares = squares;
    j.sum.sums = j.sum.counts = 1;
    j.sum.blocks = (of->count - 1) / WEFT_BLOCK + 1;
    j.sum.total = u->total;
    WEFT_DEVICE_CODE(u, weft_device_code_sums, (j.sum.blocks - 1) / WEFT_DEVICE_PIECE * WEFT_CODEC_BLOCK + 1,
                     WEFT_DEVICE_CELLS, &j);
    weft_gpu_fetch(u, WEFT_OK, total, 2);
    *nonfinite += total[1].count;
    return total[0].sum;
}

/* Leaves in j->count where each block's elements that are sent (or, with `equal`, of this magnitude) begin. */
WEFT_FN void weft_gpu_codec_places(weft_gpu *u, weft_device_code *j) {
    WEFT_DEVICE_CODE(u, weft_device_code_counts, j->sum.n, WEFT_DEVICE_CELLS, j);
    weft_gpu_note(u, weft_device_code_launch(u, weft_device_code_places, 1, WEFT_DEVICE_CELLS, j));
}

/* As weft_codec_cut: the bits of the magnitude are found from the highest on, some with each pass. */
WEFT_FN void weft_gpu_codec_cut(weft_gpu *u, const weft_codec_job *of, weft_codec_scale *scale) {
    weft_device_code j = weft_device_code_job(u, of, 0, of->count);
    const weft_device_word rank = weft_codec_sent(of->codec, of->count);
    unsigned done = of->dtype == WEFT_F64 ? 63 : 31;
    weft_device_found f;
    weft_data_zero(u, j.bin, WEFT_DEVICE_BINS * sizeof *j.bin);
    weft_gpu_move(u, &j.found->left, &rank, sizeof rank, cudaMemcpyHostToDevice);
    for (j.equal = 1; done; j.equal = 0) {
        j.width = done < 11 ? done : 11;
        j.shift = done - j.width;
        WEFT_DEVICE_CODE(u, weft_device_code_bins, of->count, WEFT_DEVICE_BINS, &j);
        weft_gpu_note(u, weft_device_code_launch(u, weft_device_code_bin, 1, WEFT_DEVICE_CELLS, &j));
        done = j.shift;
    }
    f = weft_device_code_found(u, &j);
    scale->nonfinite = f.nonfinite;
    scale->least = f.bits;
    scale->last = of->count;
    if (f.same == f.left) return;
    j.equal = 1;
    j.least = f.bits;
    j.pairs = (size_t)f.left;
    weft_gpu_codec_places(u, &j);
    WEFT_DEVICE_CODE(u, weft_device_code_where, of->count, WEFT_DEVICE_CELLS, &j);
    scale->last = (size_t)(weft_device_code_found(u, &j).last - 1);
}

/* As weft_codec_encode, of a job that has been checked and whose message has room for `need` bytes. */
WEFT_FN void weft_gpu_codec_encode(weft_gpu *u, const weft_codec_job *of, const weft_codec_scale *scale, size_t first,
                                   size_t count, unsigned char *message, size_t need, size_t *bytes,
                                   uint64_t *nonfinite) {
    weft_device_code j = weft_device_code_job(u, of, first, count);
    const size_t each = weft_codec_value_bytes(of->dtype);
    weft_device_found f;
    j.message = message;
    j.bytes = *bytes = need;
    j.step = scale->step;
    j.norm = scale->norm;
    j.least = scale->least;
    j.last = scale->last;
    if (j.kind == WEFT_CODEC_TOPK) weft_gpu_codec_places(u, &j);
    WEFT_DEVICE_CODE(u, weft_device_encode, count, WEFT_DEVICE_CELLS, &j);
    f = weft_device_code_found(u, &j);
    if (nonfinite) *nonfinite += f.nonfinite;
    if (j.kind == WEFT_CODEC_TOPK) *bytes = (size_t)f.pairs * (4 + each) < need ? (size_t)f.pairs * (4 + each) : need;
    if (j.kind == WEFT_CODEC_SIGN) {
        unsigned char zeros[4];
        weft_put32(zeros, f.zeros != 0);
        weft_data_in(u, message + each, zeros, sizeof zeros);
        if (!f.zeros) *bytes -= (count + 7) / 8;
    }
}

/* Looks at the values and indices of a message, whose length is right. Is there an index that does not follow? */
WEFT_FN int weft_gpu_codec_inspect(weft_gpu *u, const weft_codec_reader *r, int *finite, uint32_t *index) {
    weft_device_code j = weft_device_code_make(u, r->codec, r->dtype, 0, r->count);
    weft_device_found f;
    j.message = (unsigned char *)(uintptr_t)r->p;
    j.pairs = r->pairs;
    WEFT_DEVICE_CODE(u, weft_device_inspect, r->count, 0, &j);
    f = weft_device_code_found(u, &j);
    *finite = f.nonfinite == 0;
    *index = (uint32_t)(f.index - 1);
    return f.index != 0;
}

/* Both ways to decode a message that has been checked. */
WEFT_FN void weft_gpu_codec_decode(weft_gpu *u, const weft_codec_reader *r, size_t first, int add, double weight,
                                   void *out) {
    weft_device_code j = weft_device_code_make(u, r->codec, r->dtype, first, r->count);
    const size_t each = weft_dtype_bytes(r->dtype);
    j.message = (unsigned char *)(uintptr_t)r->p;
    j.bytes = r->bytes;
    j.pairs = r->pairs;
    j.step = r->step;
    j.equal = r->zeros;
    j.add = add;
    j.weight = weight;
    j.out = out;
    if (r->codec->kind != WEFT_CODEC_TOPK) {
        WEFT_DEVICE_CODE(u, weft_device_decode, r->count, 0, &j);
        return;
    }
    if (!add) weft_data_zero(u, (unsigned char *)out + first * each, r->count * each);
    if (r->pairs) WEFT_DEVICE_CODE(u, weft_device_decode_pairs, r->pairs, 0, &j);
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
