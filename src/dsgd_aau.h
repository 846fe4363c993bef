/* SPDX-License-Identifier: MIT
 * dsgd_aau.h: decentralised SGD with adaptive asynchronous updates (DSGD-AAU) for training processes of any framework,
 * in plain C: every worker averages with whichever neighbours are ready, and only an epoch's end waits for stragglers.
 *
 * A worker takes a gradient step on its own parameters, x_j <- x_j - eta g(x_j), and says that it is ready. When an
 * edge between two ready workers joins two parts of the graph that this epoch has not joined yet, they average, by
 * Metropolis weights, and go on; an epoch is over when the edges averaged join all workers, so that what anyone has
 * learnt reaches everybody, however unequal the speeds are. No server, no global clock, no all-reduce.
 * G. Xiong, G. Yan, S. Wang, J. Li: "Straggler-Resilient Decentralized Learning via Adaptive Asynchronous Updates",
 * ACM MobiHoc 2024, arXiv 2306.06559. The paper describes the method with a global iteration counter; the message
 * protocol that does without one, and the rule by which an edge counts as new (it merges two parts), are this
 * library's.
 *
 * ---- Quick start ----
 *
 *   #define DSGD_AAU_IMPLEMENTATION         // in exactly one source file
 *   #include "dsgd_aau.h"
 *
 *   weft_tensor t[] = { {w1, n1, WEFT_F32}, {b1, n2, WEFT_F32} };    // your parameters, where they are
 *   weft_tensors params = {t, 2};
 *   weft_transport net = weft_transport_make(&my_net, rank, size, my_send, my_recv, my_test, my_cancel, my_now);
 *   weft_graph graph;                       // who may talk to whom: the same on all workers
 *   weft_graph_torus(&graph, 4, 8, graph_memory, sizeof graph_memory);
 *
 *   dsgd_aau_desc d = {sizeof d};           // zero is the default everywhere
 *   d.params = params; d.transport = &net; d.graph = &graph;
 *   size_t bytes = dsgd_aau_memory(&d, NULL);  // exact; a report names every buffer
 *   dsgd_aau *x; weft_status s = dsgd_aau_init(&x, &d, malloc(bytes), bytes);
 *   if (s < 0) return fail(weft_strerror(s), NULL);
 *
 *   for (;;) {
 *       train_one_step(model);              // forward, backward, optimiser: your own
 *       s = dsgd_aau_step(x);               // ready: average with whoever else is
 *       if (s == WEFT_AGAIN) s = dsgd_aau_wait(x);  // or go on polling: dsgd_aau_poll(x) never blocks
 *       if (s < 0) return fail(weft_strerror(s), dsgd_aau_detail(x));
 *   }
 *   if ((s = dsgd_aau_leave(x)) == WEFT_AGAIN) s = dsgd_aau_wait(x);
 *   dsgd_aau_close(x);                      // a neighbour that is lost is no error: dsgd_aau_stats counts
 *
 * The five callbacks are your network, or an adapter: their rules are "The transport contract", below; set net.wait,
 * too, if it can sleep. weft_transport_selftest tries yours. After WEFT_ERR_TIMEOUT one may wait again, as long again.
 *
 * (Where {sizeof d} draws a warning about missing initialisers: {0} in C, {} in C++, and d.struct_size = sizeof d.)
 *
 * ---- The verbs ----
 *
 * Every verb does a bounded amount of work and returns: WEFT_OK (done), WEFT_AGAIN (in progress: call dsgd_aau_poll
 * until it says something else), or an error (< 0; dsgd_aau_detail names who and where). From WEFT_AGAIN until
 * WEFT_OK the parameters are lent to the library: neither write nor train on them. They change at the very end,
 * wholly or not at all. A neighbour that is lost, or whose messages make no sense, is no error: the others go on
 * without it (dsgd_aau_stats counts; dsgd_aau_fault tells why if it was nonsense, or other settings). Errors that a
 * verb may return while the run goes on, each said once: WEFT_ERR_MISMATCH (a neighbour runs with other settings, and
 * was refused), WEFT_ERR_TIMEOUT (nothing has moved for timeout_ns). dsgd_aau_state tells which verbs are legal now;
 * a wrong one is WEFT_ERR_ORDER and changes nothing. One object belongs to one thread at a time. No verb allocates,
 * sleeps (but dsgd_aau_wait, in the transport), prints or reads the environment.
 *
 * While you compute a gradient, others may ask this worker for an answer ("not now") or have news to pass on: a
 * dsgd_aau_poll between two layers answers at once what would else wait for your next step. Nothing breaks without it,
 * but epochs take longer (in one simulation of 64 workers twice as long, and steps alone were twice as many).
 *
 * ---- Which verb when ----
 *
 *                             fresh    idle     busy     left
 *   dsgd_aau_start            y        y        -        -
 *   dsgd_aau_step             y        y        -        -
 *   dsgd_aau_poll             y        y        y        y
 *   dsgd_aau_wait             y        y        y        y
 *   dsgd_aau_leave            y        y        -        -
 *   dsgd_aau_peer_lost        y        y        y        -
 *   dsgd_aau_peer_up          y        y        y        -
 *   dsgd_aau_save             y        y        -        -
 *   dsgd_aau_save_to          y        y        -        -
 *   dsgd_aau_load             y        -        -        -
 *   dsgd_aau_load_from        y        -        -        -
 *
 * fresh: nothing has been called. idle: between steps. busy: a verb has returned WEFT_AGAIN. left: dsgd_aau_leave is
 * done. A lost neighbour makes no other state. A dash is WEFT_ERR_ORDER and changes nothing; dsgd_aau_state tells the
 * same in bits. The readers (stats, effective, detail, fault, link, labels, state) and dsgd_aau_close are legal in
 * all; after close nothing is.
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
 * WEFT_ERR_, all below 0; dsgd_aau_detail names peer, phase, field and both values.
 *
 *   ARGUMENT, ABI, MEMORY, OVERFLOW             a descriptor or an argument is wrong: detail.field names it, with what
 *                                               is expected and what was got; nothing has happened
 *   FLOAT_ENV, UNSUPPORTED                      of init: floats are not computed as they must be, or the setting does
 *                                               not exist here
 *   ORDER, REENTRY                              a dash of the table; a verb called from its own callback; nothing has
 *                                               happened
 *   TIMEOUT                                     nothing has moved for timeout_ns: poll on, or tell of a loss
 *                                               (dsgd_aau_peer_lost)
 *   MISMATCH, VERSION                           a neighbour has other settings, or another version of this header, and
 *                                               was refused; detail has both values; the others go on
 *   NONFINITE                                   of step: the parameters are not finite, and nothing was announced:
 *                                               mend them, call it again
 *   CAPACITY                                    of save: detail.expected bytes are needed
 *   ARGUMENT, VERSION, CHECKSUM, MISMATCH       of load: no blob, a damaged one, or one of other settings; the object
 *                                               is as before
 *   none                                        a neighbour that is lost, says nonsense, or whose link fails: its link
 *                                               ends. stats.lost counts, dsgd_aau_link tells which; after nonsense
 *                                               dsgd_aau_fault says why
 *
 * ---- How the waiting ends ----
 *
 * You wait until a neighbour that this epoch has not joined with you yet is ready, or until news arrive that others
 * have averaged: then you take any ready neighbour, or, `grace_ns` later at the latest, go on with your local step
 * alone. So the slowest worker holds up an epoch, but nobody's steps; only when all others are joined already do they
 * wait for it. With few workers that is the usual case: in a ring of three the fast ones take two steps for each of
 * the slowest. `patience_ns` bounds even that (an extension; not in the paper), for more steps alone: an edge that an
 * epoch has used is used again in the next one only. In the end models differ: take one, or average them yourself. A
 * worker alone (N = 1, or everybody else lost) never waits, and its parameters are never touched.
 *
 * grace_ns should be two or three round trips; its default is a 32nd of your own gradient's time. Without any most
 * steps on a sparse graph are alone (in a simulation of 256 workers on a torus 87 %, with 0.03 gradients' time 57 %).
 * The more neighbours, the fewer, and the more workers, the more, since news from anywhere end the waiting: 1,024 on a
 * torus 65 %, with 19 neighbours each (weft_graph_exponential) 54 %; 64 workers with 16 neighbours each 25 %.
 *
 * ---- Extra memory ----
 *
 * One accumulator of the model's size (4 bytes an element for 16-bit types), whatever `fan`; one piece (piece_bytes;
 * one more for the bf16 wire); 20 bytes a worker, 8 bytes an edge and about 1.5 KB a neighbour for labels and messages.
 * dsgd_aau_memory names every buffer.
 *
 * With P the bytes of the parameters (each tensor rounded up to 64) and p = min(piece_bytes, the largest tensor), on
 * 64-bit machines: P + p (2 p with the bf16 wire) + 1.5 KB k + 20 N + 8 E + 2 KB, for k neighbours and E edges.
 *
 * ---- On the wire ----
 *
 * An averaging among one leader and d leaves moves 2 d models. Control messages are 20 bytes and what news they carry:
 * each merge of an epoch passes each link about once, in 2 to 6 bytes, so that an epoch costs a link at most some N
 * times that. coalesce_ns gathers news for so long before they get a message of their own. Simulated, 128 workers with
 * 32 neighbours each send 11 KB of control a gradient, 1 % of what a model of a megabyte costs there; workers on a
 * torus 0.6 KB (64 of them), 1 KB (256), 2.6 KB (1,024), 5.3 KB (4,096, in their first epoch).
 *
 * ---- With your trainer ----
 *
 * learning rate     tie its schedule to your own steps or to the epoch (dsgd_aau_stats), never to a global iteration.
 * momentum, Adam    stay local and untouched: only parameters are averaged. BatchNorm statistics stay local, too.
 * tied weights      list the tensor once; listing the same memory twice is refused.
 * a skipped step    call dsgd_aau_step all the same: the averaging takes place.
 * NaN, infinity     dsgd_aau_step refuses parameters that are not finite (WEFT_ERR_NONFINITE, nothing is announced):
 *                   mend them and call it again. Until then others take this worker for a slow one. Values so large
 *                   that their difference overflows (above 1e38 in f32) become infinite in an averaging.
 * fast and slow     workers take part unequally, so the mean leans towards the data of fast workers if data differ and
 *                   stragglers are always the same ones.
 *
 * ---- What is guaranteed when things fail ----
 *
 * Crash-stop faults, and links that break and heal. Every averaging that completes is doubly stochastic, and both
 * ends use the same exchanged values, so that the mean of all workers stays (to rounding) where it is. A worker that
 * is lost in the middle of one takes its own parameters with it: that may move the mean of the others by a fraction
 * of its distance, as no protocol that does not wait for the dead can avoid. A neighbour that has answered an
 * invitation and then falls silent holds its partners until it is declared lost. Nobody is declared lost by time: a
 * worker that hangs is for the host to find (TIMEOUT says that nothing moves; those whom dsgd_aau_labels shows in
 * another part are awaited) and to report with dsgd_aau_peer_lost, at each of its neighbours. Messages are checked,
 * so that nonsense ends a link and nothing else; but a worker that lies well (that two others have lost each other,
 * say) is believed. The graph may fall apart: each side goes on alone, and they grow together when a link heals.
 * Whoever comes later or again (`join`) takes over a neighbour's parameters.
 *
 * ---- What is assumed of the host ----
 *
 * For each (peer, tag) the transport delivers exactly once, in order, and undamaged; a lost peer is an error or a call
 * of dsgd_aau_peer_lost; a worker that is declared lost sends no more (or as a newcomer). `now` does not go back. The
 * memory given, tensor lists and transport stay where they are until dsgd_aau_close. Float arithmetic is IEEE 754,
 * rounding to nearest, without flushing (checked at init). All of it is tested by weft_transport_selftest as far as a
 * test can tell.
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
#include "weft/trace.h"
#include "weft/link.h"
#include "weft/graph.h"
#include "weft/state.h"
/*==== API ====*/

#ifndef DSGD_AAU_API
#ifdef DSGD_AAU_STATIC
#define DSGD_AAU_API static WEFT_UNUSED
#elif defined __cplusplus
#define DSGD_AAU_API extern "C"
#else
#define DSGD_AAU_API extern
#endif
#endif

typedef struct dsgd_aau dsgd_aau;

/* How this worker comes in. */
typedef enum dsgd_aau_join {
    DSGD_AAU_FOUND = 0, /* from the beginning, with all others: nobody waits for news of whoever is not there yet */
    DSGD_AAU_JOIN = 1,  /* later, or again: takes over the parameters of the first neighbour that it reaches */
    DSGD_AAU_REJOIN = 2 /* later, or again, with parameters of its own (saved before, say) */
} dsgd_aau_join;

/* What founders make of each other's initial parameters, at first contact. */
typedef enum dsgd_aau_initial {
    DSGD_AAU_INITIAL_CHECK = 0, /* hashes must agree, else WEFT_ERR_MISMATCH with both, and the link is refused */
    DSGD_AAU_INITIAL_KEEP = 1   /* everyone starts from its own */
} dsgd_aau_initial;

/* How parameters travel. */
typedef enum dsgd_aau_wire {
    DSGD_AAU_WIRE_OWN = 0, /* as they are */
    DSGD_AAU_WIRE_BF16 = 1 /* f32 tensors as bf16, half the bytes; the mean of the workers still stays where it is */
} dsgd_aau_wire;

/* Everything dsgd_aau_init wants to know. Fill struct_size, params, transport and graph; zero is the default of every
 * other field. Pointers are to the host's memory: the descriptor itself is copied; tensor list, transport, graph and
 * pool must outlive the object. Fields marked (F) are part of the fingerprint: the same on all workers. */
typedef struct dsgd_aau_desc {
    size_t struct_size;              /* sizeof(dsgd_aau_desc) */
    weft_tensors params;             /* (F: shapes, types) parameters, in place */
    const weft_transport *transport; /* the host's network; its size is the graph's */
    const weft_graph *graph;         /* (F) connected */
    const weft_pool *pool;           /* the host's threads; NULL: serial */
    uint32_t channel;         /* the same on all workers: 0 .. WEFT_CHANNELS-1; objects sharing a transport differ */
    weft_isa isa;             /* force an instruction set; dsgd_aau_effective tells which one is in use */
    dsgd_aau_join join;       /* how this worker comes in */
    dsgd_aau_initial initial; /* what founders compare */
    dsgd_aau_wire wire;       /* (F) */
    uint32_t fan;             /* most leaves in one averaging; default 8; 1: pairs only */
    uint32_t piece_bytes; /* (F) longest bulk message; default 262,144, at least 1,024; never above the transport's */
    uint64_t grace_ns;    /* a released worker waits so long for a leader: two or three round trips; 0: a 32nd of the
                           * time that its last gradient took (without a clock: not at all); DSGD_AAU_NO_GRACE */
    uint64_t coalesce_ns; /* news wait so long for a message to travel with; 0: they go at once */
    uint64_t patience_ns; /* extension: who has waited so long for a partner goes on alone; 0: never */
    uint64_t timeout_ns;  /* nothing moves for so long: WEFT_ERR_TIMEOUT, polling may go on; 0: never */
    weft_trace_fn trace;  /* may be NULL */
    void *trace_ctx;
#ifdef WEFT_CUDA
    const weft_cuda *cuda; /* NULL: params are host memory; else device memory */
#endif
} dsgd_aau_desc;

#define DSGD_AAU_NO_GRACE UINT64_MAX /* a released worker does not wait */

/* Trace events (trace.h): BEGUN: a step is announced; round: its number. COMMITTED: an averaging is applied here; peer:
 * its leader, round: the leader's transaction, value: workers in it. ABANDONED: one is called off; round: transaction.
 * SENT, RECEIVED, PEER_LOST, PEER_LEFT; VIEW: a link is up; peer: the neighbour. */

/* Counters since dsgd_aau_init (those up to `traffic` as loaded, if so). */
typedef struct dsgd_aau_stats_t {
    uint64_t steps;      /* announced */
    uint64_t led;        /* averagings with this worker as leader */
    uint64_t followed;   /* averagings as a leaf */
    uint64_t partners;   /* other workers in those two, all together */
    uint64_t alone;      /* steps without any averaging */
    uint64_t called_off; /* averagings that came to nothing: a leaf was lost in the middle */
    uint64_t nonfinite;  /* steps, or neighbours' parameters, refused for a value that is not finite */
    uint64_t merges;     /* parts that this worker's averagings have joined */
    uint64_t redundant;  /* averagings led that joined nothing new */
    uint64_t epochs;     /* that this worker has seen completed */
    weft_traffic traffic;
    uint64_t epoch;      /* of the present view: agreed, and only growing while the view stays */
    uint64_t views;      /* changes of the view: links lost or up, anywhere */
    uint64_t lost;       /* links of this worker lost */
    uint64_t faults;     /* malformed messages and failed callbacks */
    uint32_t neighbours; /* links that are up now */
    uint32_t part;       /* workers that links which are up join with this one, itself included */
} dsgd_aau_stats_t;

/* Bits of dsgd_aau_state: which verbs are legal now. close, stats, detail and the like always are. */
enum {
    DSGD_AAU_MAY_STEP = 1,  /* dsgd_aau_step, dsgd_aau_save, dsgd_aau_leave; the parameters are the host's */
    DSGD_AAU_MAY_POLL = 2,  /* something is in progress (dsgd_aau_poll and dsgd_aau_wait are legal at any time) */
    DSGD_AAU_MAY_LOAD = 4,  /* dsgd_aau_load: after init, before anything else */
    DSGD_AAU_MAY_START = 8, /* dsgd_aau_start; for a worker that joins, before its first step */
    DSGD_AAU_MAY_LINK = 16  /* dsgd_aau_peer_lost, dsgd_aau_peer_up */
};

/* Bytes that dsgd_aau_init needs for this descriptor; 0 if the descriptor is refused (report->detail says why).
 * `report`, if not NULL, is overwritten with every buffer by name. */
#define dsgd_aau_memory(desc, report) dsgd_aau_memory_abi((desc), (report), sizeof(dsgd_aau_desc), WEFT_ABI)
DSGD_AAU_API size_t dsgd_aau_memory_abi(const dsgd_aau_desc *desc, weft_memory_report *report, size_t desc_size,
                                        uint32_t abi);

/* Makes *out inside `memory` (the caller's, any alignment, at least dsgd_aau_memory bytes; it must stay until
 * dsgd_aau_close). Sends nothing. Errors: ARGUMENT, ABI, MEMORY, OVERFLOW, FLOAT_ENV; *out is then NULL and *detail, if
 * not NULL, says why. */
#define dsgd_aau_init(out, desc, memory, bytes)                                                                        \
    dsgd_aau_init_abi((out), (desc), (memory), (bytes), NULL, sizeof(dsgd_aau_desc), WEFT_ABI)
#define dsgd_aau_init_detail(out, desc, memory, bytes, detail)                                                         \
    dsgd_aau_init_abi((out), (desc), (memory), (bytes), (detail), sizeof(dsgd_aau_desc), WEFT_ABI)
DSGD_AAU_API weft_status dsgd_aau_init_abi(dsgd_aau **out, const dsgd_aau_desc *desc, void *memory, size_t bytes,
                                           weft_detail *detail, size_t desc_size, uint32_t abi);

/* Says hello to the neighbours. For a founder optional: the first dsgd_aau_step does the same; the initial parameters
 * are those at the time of dsgd_aau_start, without it those at the time of dsgd_aau_init; WEFT_OK at once. A worker
 * that joins calls it first, and polls until WEFT_OK: with DSGD_AAU_JOIN the parameters are then a neighbour's.
 * PEER_LOST: no neighbour is there; dsgd_aau_peer_up tells of one. */
DSGD_AAU_API weft_status dsgd_aau_start(dsgd_aau *x);

/* One local step is done, the parameters hold its result: averages with whoever is ready. WEFT_OK: that is done, or
 * there is nobody; go on. WEFT_AGAIN: poll. NONFINITE: refused, nothing has happened. */
DSGD_AAU_API weft_status dsgd_aau_step(dsgd_aau *x);

/* Goes on with whatever is in progress, and answers others. Never blocks. WEFT_OK: nothing is in progress (any more),
 * the parameters are the host's again. */
DSGD_AAU_API weft_status dsgd_aau_poll(dsgd_aau *x);

/* Polls until something other than WEFT_AGAIN comes, sleeping in the transport's `wait` where there is one. Bounded by
 * timeout_ns, if there is one. */
DSGD_AAU_API weft_status dsgd_aau_wait(dsgd_aau *x);

/* When to poll at the latest, on the clock of the transport's now, even if nothing comes: UINT64_MAX: never. */
DSGD_AAU_API uint64_t dsgd_aau_wake_ns(const dsgd_aau *x);

/* Says good-bye after the last step: the others go on without this worker. Poll until WEFT_OK, then close. Waits for
 * neighbours that have not come yet (timeout_ns bounds that; dsgd_aau_peer_lost tells that one never will). */
DSGD_AAU_API weft_status dsgd_aau_leave(dsgd_aau *x);

/* The host has learnt that `rank`, or the link to it, is gone, or is usable again. Both ends of a link that comes back
 * need the second. Legal at any time; those that are not neighbours are no news (others tell). Communicates nothing by
 * itself. dsgd_aau_peer_up of a link that seems to be up ends it, and begins a new one. */
DSGD_AAU_API weft_status dsgd_aau_peer_lost(dsgd_aau *x, uint32_t rank);
DSGD_AAU_API weft_status dsgd_aau_peer_up(dsgd_aau *x, uint32_t rank);

/* The counters of this object, as one blob (versioned, checksummed, endian-neutral). *bytes is set to the length; with
 * buf NULL only that. Parameters and optimiser are the host's to save. What shapes a run is when things happened, which
 * nobody can save: whoever loads comes in anew, as `join` says (if all do: DSGD_AAU_FOUND with DSGD_AAU_INITIAL_KEEP,
 * since their parameters differ by then). Load: into a fresh object of the same descriptor, rank
 * and graph. Hostile blobs give an error, the object is then as before. */
DSGD_AAU_API weft_status dsgd_aau_save(dsgd_aau *x, void *buf, size_t capacity, size_t *bytes);
DSGD_AAU_API weft_status dsgd_aau_load(dsgd_aau *x, const void *buf, size_t bytes);
/* The same through callbacks (state.h), for blobs that no memory has room for. `write` NULL: only the length. */
DSGD_AAU_API weft_status dsgd_aau_save_to(dsgd_aau *x, weft_write_fn write, void *ctx, size_t *bytes);
DSGD_AAU_API weft_status dsgd_aau_load_from(dsgd_aau *x, weft_read_fn read, void *ctx, size_t bytes);

/* Reading. The descriptor comes back with defaults filled in. */
DSGD_AAU_API void dsgd_aau_stats(const dsgd_aau *x, dsgd_aau_stats_t *out);
DSGD_AAU_API void dsgd_aau_effective(const dsgd_aau *x, dsgd_aau_desc *out);
DSGD_AAU_API const weft_detail *dsgd_aau_detail(const dsgd_aau *x); /* never NULL, but for x == NULL */
/* Why a link was last given up from this end; likewise. A loss that transport or host have told of is none. */
DSGD_AAU_API const weft_detail *dsgd_aau_fault(const dsgd_aau *x);
DSGD_AAU_API uint32_t dsgd_aau_state(const dsgd_aau *x);
DSGD_AAU_API weft_link_state dsgd_aau_link(const dsgd_aau *x, uint32_t rank); /* DOWN for whoever is no neighbour */
/* Parts of this epoch, as this worker knows them: the smallest worker of each one's part. How many; as far as
 * `capacity` goes. */
DSGD_AAU_API uint32_t dsgd_aau_labels(dsgd_aau *x, uint32_t *labels, uint32_t capacity);

/* Cancels every message under way. Afterwards the memory is the host's again and no verb is legal. Needs nobody's
 * cooperation. */
DSGD_AAU_API void dsgd_aau_close(dsgd_aau *x);

/* ---- The rule itself, as pure functions ----
 *
 * For simulators and models of the paper's form, where one global eye sees who is available. */

/* Pathsearch (rule "merge"): which edges between available workers (available[i] not 0) join two parts, in ascending
 * order, each seen after those before it. labels[i]: the smallest worker of i's part (i itself at the beginning of an
 * epoch); updated. The edges' numbers go to `edge` as far as `capacity` goes; returns how many there are. */
DSGD_AAU_API uint32_t dsgd_aau_pathsearch(const weft_graph *graph, const unsigned char *available, uint32_t *labels,
                                          uint32_t *edge, uint32_t capacity);

/* Metropolis weights on the graph that the participants (`who`, ascending ranks) induce: w[i * count + j] is the weight
 * of who[j] in the average of who[i]: 1 / (1 + max(p_i, p_j)), p: neighbours among the participants. WEFT_ERR_ARGUMENT
 * if `who` is not ascending or names nobody. */
DSGD_AAU_API weft_status dsgd_aau_weights(const weft_graph *graph, const uint32_t *who, uint32_t count, double *w);
/*==== IMPLEMENTATION ====*/

/* ---- The rule itself ---- */

DSGD_AAU_API uint32_t dsgd_aau_pathsearch(const weft_graph *graph, const unsigned char *available, uint32_t *labels,
                                          uint32_t *edge, uint32_t capacity) {
    uint32_t i, k, r, n, e = 0, count = 0;
    for (i = 0; i < graph->workers; i++) {
        const uint32_t *j = weft_graph_neighbours(graph, i, &n);
        for (k = 0; k < n; k++) {
            uint32_t low, high;
            if (j[k] < i) continue;
            e++;
            if (!available[i] || !available[j[k]] || labels[i] == labels[j[k]]) continue;
            low = labels[i] < labels[j[k]] ? labels[i] : labels[j[k]];
            high = labels[i] < labels[j[k]] ? labels[j[k]] : labels[i];
            for (r = 0; r < graph->workers; r++)
                if (labels[r] == high) labels[r] = low;
            if (edge && count < capacity) edge[count] = e - 1;
            count++;
        }
    }
    return count;
}

/* How many of `who` are neighbours of the i-th of them. */
WEFT_FN uint32_t dsgd_aau_degree(const weft_graph *graph, const uint32_t *who, uint32_t count, uint32_t i) {
    uint32_t k, n = 0;
    for (k = 0; k < count; k++) n += k != i && weft_graph_has_edge(graph, who[i], who[k]);
    return n;
}

DSGD_AAU_API weft_status dsgd_aau_weights(const weft_graph *graph, const uint32_t *who, uint32_t count, double *w) {
    uint32_t i, k;
    for (i = 0; i < count; i++)
        if (who[i] >= graph->workers || (i && who[i] <= who[i - 1])) return WEFT_ERR_ARGUMENT;
    for (i = 0; i < count; i++) w[(size_t)i * count + i] = (double)dsgd_aau_degree(graph, who, count, i);
    for (i = 0; i < count; i++)
        for (k = 0; k < count; k++) {
            double p = w[(size_t)i * count + i], q = w[(size_t)k * count + k];
            if (i == k) continue;
            w[(size_t)i * count + k] = weft_graph_has_edge(graph, who[i], who[k]) ? 1.0 / (1.0 + (p > q ? p : q)) : 0.0;
        }
    for (i = 0; i < count; i++) {
        double rest = 1.0;
        for (k = 0; k < count; k++)
            if (k != i) rest -= w[(size_t)i * count + k];
        w[(size_t)i * count + i] = rest;
    }
    return WEFT_OK;
}

/* ---- The protocol as a machine: events in, actions out ----
 *
 * No parameters, no clock, no network: what tests explore exhaustively is what runs. Neighbours are named by their
 * slot, 0 .. degree - 1, ascending. Links are reliable and in order until peer_lost. */

enum {
    DSGD_AAU_COMPUTING = 0, /* C: the host takes a step; of its parameters nothing is read */
    DSGD_AAU_WAITING = 1,   /* W: the step is done */
    DSGD_AAU_PROPOSING = 2, /* P: leads, and gathers answers */
    DSGD_AAU_LOCKED = 3     /* L: is a leaf, and waits for its leader's word */
};

/* Actions. Those up to DSGD_AAU_ABORT are messages to a neighbour, and the kinds of letters on the wire. */
enum {
    DSGD_AAU_STATE = 1,
    DSGD_AAU_READY = 2,
    DSGD_AAU_BUSY = 3,
    DSGD_AAU_PROPOSE = 4,
    DSGD_AAU_ACCEPT = 5, /* with this worker's parameters */
    DSGD_AAU_REJECT = 6,
    DSGD_AAU_COMMIT = 7, /* with this worker's parameters */
    DSGD_AAU_ABORT = 8,
    DSGD_AAU_PULL = 9, /* a joining worker asks for parameters: not the machine's affair */
    DSGD_AAU_SNAPSHOT = 10,
    DSGD_AAU_LATER = 11, /* the one asked is joining itself */
    DSGD_AAU_LAST_KIND = 11,
    DSGD_AAU_ADD = 12,      /* the parameters of this leaf go into the sum */
    DSGD_AAU_CENTER = 13,   /* x <- (x + sum) / (1 + count) */
    DSGD_AAU_LEAF = 14,     /* x <- x + (x_leader - x) / (1 + count) */
    DSGD_AAU_CONTINUE = 15, /* the next gradient */
    DSGD_AAU_LINGER = 16    /* linger() is due in a while, with this session */
};

/* slot: the neighbour, or WEFT_NO_RANK; id: transaction or session; count: leaves of the star. */
typedef void (*dsgd_aau_act_fn)(void *owner, int act, uint32_t slot, uint32_t id, uint32_t count);

enum { DSGD_AAU_LINK = 1, DSGD_AAU_IS_READY = 2, DSGD_AAU_PENDING = 4, DSGD_AAU_SUMMED = 8 };

/* One merge of two parts, as it was learnt. */
typedef struct dsgd_aau_merge {
    uint32_t u, v, from; /* from: the slot that told it, or WEFT_NO_RANK */
} dsgd_aau_merge;

/* How much of the state a neighbour has been told. */
typedef struct dsgd_aau_told {
    uint32_t epoch_mark, merges; /* of which epoch, and how many merges of it */
    uint32_t view, goal, at;     /* changes of the view up to `view`; a pass over the edges up to `goal` stands `at` */
    uint32_t base;
} dsgd_aau_told;

/* ---- The replicated state ----
 *
 * (view, epoch, labels), a lattice that only grows. view: a counter for each edge of the graph, odd: up. labels: the
 * parts of the workers joined by the edges averaged in this view and epoch, a forest whose roots are the smallest. The
 * merges that made them are kept in order, so that a neighbour is told each once. */
typedef struct dsgd_aau_core {
    const weft_graph *graph;
    const uint32_t *neighbour;
    uint32_t me, workers, edges, degree, fan;
    int grace; /* a released worker lingers for a leader */
    dsgd_aau_act_fn act;
    void *owner;
    /* the state */
    uint32_t *view;    /* one an edge */
    uint32_t *changed; /* one an edge: the change of the view that set its counter last */
    uint32_t *parent;  /* one a worker */
    uint32_t *part;    /* one a worker: the smallest worker that up-edges join it with */
    dsgd_aau_merge *merge;
    uint32_t merges, changes, base, epoch_mark;
    uint32_t apart; /* merges that this worker's part still lacks */
    uint64_t epoch, view_hash;
    /* this worker */
    int st, released, impatient;
    uint32_t session, tx, lingers, leader, leader_tx, pending, summed;
    uint32_t *edge;      /* one a slot: the number of the edge */
    unsigned char *mark; /* one a slot */
    uint32_t *order;     /* slots summed, in order */
    dsgd_aau_told *told; /* one a slot */
    /* counters */
    uint64_t epochs, merged, redundant, alone, views;
} dsgd_aau_core;

/* Where numbers end that a neighbour may make as large as it likes: what this worker passes on is never refused by the
 * next. An edge whose counter gets there, to an even number, stays down; after the last epoch comes another view. */
#define DSGD_AAU_MOST_COUNTER 0xFFFF0000u
#define DSGD_AAU_MOST_EPOCH (UINT64_MAX >> 2)

WEFT_FN uint64_t dsgd_aau_mix(uint32_t edge, uint32_t counter) {
    return counter ? weft_mix(((uint64_t)edge << 32 | counter) + WEFT_HASH_KEY) : 0;
}

WEFT_FN uint32_t dsgd_aau_find(uint32_t *parent, uint32_t i) {
    while (parent[i] != i) {
        parent[i] = parent[parent[i]];
        i = parent[i];
    }
    return i;
}

/* Joins two parts; 0 if they are one. The smaller root stays. */
WEFT_FN int dsgd_aau_union(uint32_t *parent, uint32_t u, uint32_t v) {
    u = dsgd_aau_find(parent, u);
    v = dsgd_aau_find(parent, v);
    if (u == v) return 0;
    parent[u > v ? u : v] = u > v ? v : u;
    return 1;
}

WEFT_FN uint32_t dsgd_aau_label(dsgd_aau_core *c, uint32_t i) {
    return dsgd_aau_find(c->parent, i);
}

/* A new epoch, or a new view: every worker a part of its own. */
WEFT_FN void dsgd_aau_discrete(dsgd_aau_core *c) {
    uint32_t i;
    c->apart = 0;
    for (i = 0; i < c->workers; i++) {
        c->parent[i] = i;
        c->apart += c->part[i] == c->part[c->me];
    }
    c->apart--;
    c->merges = 0;
    c->epoch_mark++;
}

/* The view is another one: what its edges join, and epoch 0. */
WEFT_FN void dsgd_aau_new_view(dsgd_aau_core *c) {
    uint32_t i, k, e = 0, n;
    for (i = 0; i < c->workers; i++) c->part[i] = i;
    for (i = 0; i < c->workers; i++) {
        const uint32_t *j = weft_graph_neighbours(c->graph, i, &n);
        for (k = 0; k < n; k++)
            if (j[k] > i && (c->view[e++] & 1u)) dsgd_aau_union(c->part, i, j[k]);
    }
    for (i = 0; i < c->workers; i++) c->part[i] = dsgd_aau_find(c->part, i);
    c->epoch = 0;
    c->views++;
    dsgd_aau_discrete(c);
}

WEFT_FN void dsgd_aau_set_counter(dsgd_aau_core *c, uint32_t edge, uint32_t counter) {
    c->view_hash += dsgd_aau_mix(edge, counter) - dsgd_aau_mix(edge, c->view[edge]);
    c->view[edge] = counter;
    c->changed[edge] = ++c->changes;
}

/* One merge into this worker's labels. */
WEFT_FN int dsgd_aau_merge_parts(dsgd_aau_core *c, uint32_t u, uint32_t v, uint32_t from) {
    dsgd_aau_merge *m;
    if (!dsgd_aau_union(c->parent, u, v)) return 0;
    m = &c->merge[c->merges++];
    m->u = u;
    m->v = v;
    m->from = from;
    if (c->part[u] == c->part[c->me]) c->apart--;
    return 1;
}

WEFT_FN int dsgd_aau_alive(const dsgd_aau_core *c, uint32_t slot) {
    return (c->mark[slot] & DSGD_AAU_LINK) && (c->view[c->edge[slot]] & 1u);
}

WEFT_FN uint32_t dsgd_aau_alive_count(const dsgd_aau_core *c) {
    uint32_t k, n = 0;
    for (k = 0; k < c->degree; k++) n += dsgd_aau_alive(c, k) != 0;
    return n;
}

WEFT_FN void dsgd_aau_unmark(dsgd_aau_core *c, uint32_t slot, unsigned what) {
    c->mark[slot] = (unsigned char)(c->mark[slot] & ~what);
}

/* The state has grown. An end corrects what others still believe of its own links; a part that is one label begins the
 * next epoch; everybody but `skip` is told (if that made it grow again, `skip`, too); who waits is released. */
WEFT_FN void dsgd_aau_grown(dsgd_aau_core *c, uint32_t skip) {
    uint32_t k, corrected = 0;
    for (k = 0; k < c->degree; k++)
        if (!(c->mark[k] & DSGD_AAU_LINK) && (c->view[c->edge[k]] & 1u)) {
            dsgd_aau_set_counter(c, c->edge[k], c->view[c->edge[k]] + 1);
            corrected = 1;
        }
    if (corrected) {
        dsgd_aau_new_view(c);
        skip = WEFT_NO_RANK;
    }
    for (k = 0; k < c->degree && c->part[c->neighbour[k]] != c->part[c->me]; k++) continue;
    if (c->apart == 0 && k < c->degree) { /* a part of one has no epochs */
        c->epochs++;
        if (c->epoch < DSGD_AAU_MOST_EPOCH) {
            c->epoch++;
            dsgd_aau_discrete(c);
        } else {
            for (k = 0; !(c->view[c->edge[k]] & 1u); k++) continue; /* one is up: it is not alone */
            dsgd_aau_set_counter(c, c->edge[k],
                                 c->view[c->edge[k]] + (c->view[c->edge[k]] + 2 < DSGD_AAU_MOST_COUNTER ? 2 : 1));
            dsgd_aau_new_view(c);
        }
        skip = WEFT_NO_RANK;
    }
    for (k = 0; k < c->degree; k++)
        if ((c->mark[k] & DSGD_AAU_LINK) && k != skip) c->act(c->owner, DSGD_AAU_STATE, k, 0, 0);
    if (c->st != DSGD_AAU_COMPUTING) c->released = 1;
}

WEFT_FN void dsgd_aau_send(dsgd_aau_core *c, uint32_t slot, int kind, uint32_t id, uint32_t count) {
    if (c->mark[slot] & DSGD_AAU_LINK) c->act(c->owner, kind, slot, id, count);
}

/* ---- Matching ---- */

/* To the next gradient; those in `skip` (a set of marks) know it already. */
WEFT_FN void dsgd_aau_to_compute(dsgd_aau_core *c, unsigned skip, uint32_t skip_slot) {
    uint32_t k;
    c->st = DSGD_AAU_COMPUTING;
    for (k = 0; k < c->degree; k++)
        if (dsgd_aau_alive(c, k) && !(c->mark[k] & skip) && k != skip_slot) dsgd_aau_send(c, k, DSGD_AAU_BUSY, 0, 0);
    for (k = 0; k < c->degree; k++) dsgd_aau_unmark(c, k, DSGD_AAU_SUMMED);
    c->act(c->owner, DSGD_AAU_CONTINUE, WEFT_NO_RANK, c->session, 0);
}

/* On alone, with a local step only. */
WEFT_FN void dsgd_aau_go_alone(dsgd_aau_core *c) {
    c->alone++;
    dsgd_aau_to_compute(c, 0, WEFT_NO_RANK);
}

/* The highest ready worker leads. Not released: only for a pair that merges. Released: whoever is there, after one
 * grace for a leader above; else on alone. */
WEFT_FN void dsgd_aau_match(dsgd_aau_core *c) {
    uint32_t k, label, low = 0, high = 0, merging = 0, high_merging = 0, n = 0;
    int pass;
    if (c->st != DSGD_AAU_WAITING) return;
    label = dsgd_aau_label(c, c->me);
    for (k = 0; k < c->degree; k++) {
        uint32_t other;
        if (!(c->mark[k] & DSGD_AAU_IS_READY) || !dsgd_aau_alive(c, k)) continue;
        other = dsgd_aau_label(c, c->neighbour[k]) != label;
        if (c->neighbour[k] < c->me) {
            low++;
            merging += other;
        } else {
            high++;
            high_merging += other;
        }
    }
    if (!c->released) {
        if (high_merging || !merging) return;
    } else if (high && c->grace && !c->impatient) {
        if (c->lingers != c->session) {
            c->lingers = c->session;
            c->act(c->owner, DSGD_AAU_LINGER, WEFT_NO_RANK, c->session, 0);
        }
        return;
    } else if (!low) {
        dsgd_aau_go_alone(c);
        return;
    }
    c->st = DSGD_AAU_PROPOSING;
    c->tx++;
    c->summed = 0;
    for (pass = 0; pass < 2; pass++)
        for (k = 0; k < c->degree && n < c->fan && c->neighbour[k] < c->me; k++)
            if ((c->mark[k] & DSGD_AAU_IS_READY) && dsgd_aau_alive(c, k) &&
                (dsgd_aau_label(c, c->neighbour[k]) != label) == !pass) {
                c->mark[k] |= DSGD_AAU_PENDING;
                c->order[n++] = k;
            }
    c->pending = n;
    /* `order` is written anew as leaves answer, never ahead of this */
    for (k = 0; k < n; k++) dsgd_aau_send(c, c->order[k], DSGD_AAU_PROPOSE, c->tx, 0);
}

WEFT_FN void dsgd_aau_rewait(dsgd_aau_core *c) {
    uint32_t k;
    c->st = DSGD_AAU_WAITING;
    for (k = 0; k < c->degree; k++)
        if (c->neighbour[k] > c->me && dsgd_aau_alive(c, k)) dsgd_aau_send(c, k, DSGD_AAU_READY, c->session, 0);
    if (!dsgd_aau_alive_count(c))
        dsgd_aau_go_alone(c);
    else
        dsgd_aau_match(c);
}

/* Everybody asked has answered: the averaging happens here, or not at all. */
WEFT_FN void dsgd_aau_finish(dsgd_aau_core *c) {
    uint32_t i, news = 0, d = c->summed;
    if (!d) {
        dsgd_aau_rewait(c);
        return;
    }
    for (i = 0; i < d; i++) {
        uint32_t k = c->order[i];
        dsgd_aau_unmark(c, k, DSGD_AAU_IS_READY);
        /* a leaf lost since it answered is in the sum, but will not hear of it */
        if ((c->mark[k] & DSGD_AAU_LINK) && (c->mark[k] & DSGD_AAU_SUMMED))
            news += (uint32_t)dsgd_aau_merge_parts(c, c->neighbour[k], c->me, WEFT_NO_RANK);
    }
    c->merged += news;
    c->redundant += !news;
    if (news) dsgd_aau_grown(c, WEFT_NO_RANK);
    for (i = 0; i < d; i++)
        if (c->mark[c->order[i]] & DSGD_AAU_SUMMED) dsgd_aau_send(c, c->order[i], DSGD_AAU_COMMIT, c->tx, d);
    c->act(c->owner, DSGD_AAU_CENTER, WEFT_NO_RANK, c->tx, d);
    c->summed = 0;
    dsgd_aau_to_compute(c, DSGD_AAU_SUMMED, WEFT_NO_RANK);
}

WEFT_FN void dsgd_aau_answered(dsgd_aau_core *c, uint32_t slot) {
    dsgd_aau_unmark(c, slot, DSGD_AAU_PENDING);
    if (--c->pending == 0) dsgd_aau_finish(c);
}

/* ---- Events ---- */

/* The host's step is done, and its parameters are its new ones. */
WEFT_FN void dsgd_aau_done(dsgd_aau_core *c) {
    uint32_t k;
    c->st = DSGD_AAU_WAITING;
    c->session++;
    c->released = c->impatient = 0;
    if (!dsgd_aau_alive_count(c)) {
        dsgd_aau_go_alone(c);
        return;
    }
    for (k = 0; k < c->degree; k++)
        if (dsgd_aau_alive(c, k)) dsgd_aau_send(c, k, DSGD_AAU_READY, c->session, 0);
    dsgd_aau_match(c);
}

/* A message but STATE. An ACCEPT comes when its parameters are here, a COMMIT likewise. */
WEFT_FN void dsgd_aau_hear(dsgd_aau_core *c, uint32_t slot, int kind, uint32_t id, uint32_t count) {
    int mine = c->st == DSGD_AAU_PROPOSING && id == c->tx && (c->mark[slot] & DSGD_AAU_PENDING);
    int leads = c->st == DSGD_AAU_LOCKED && c->leader == slot && id == c->leader_tx;
    switch (kind) {
    case DSGD_AAU_READY:
        c->mark[slot] |= DSGD_AAU_IS_READY;
        dsgd_aau_match(c);
        break;
    case DSGD_AAU_BUSY:
        dsgd_aau_unmark(c, slot, DSGD_AAU_IS_READY);
        dsgd_aau_match(c); /* the leader that this worker deferred to is gone */
        break;
    case DSGD_AAU_PROPOSE:
        if (c->st == DSGD_AAU_WAITING) {
            c->st = DSGD_AAU_LOCKED;
            c->leader = slot;
            c->leader_tx = id;
            dsgd_aau_send(c, slot, DSGD_AAU_ACCEPT, id, 0);
        } else {
            dsgd_aau_send(c, slot, DSGD_AAU_REJECT, id, 0); /* at once, whatever is: nobody waits for long */
        }
        break;
    case DSGD_AAU_ACCEPT:
        if (!mine) {
            dsgd_aau_send(c, slot, DSGD_AAU_ABORT, id, 0);
            break;
        }
        c->mark[slot] |= DSGD_AAU_SUMMED;
        c->order[c->summed++] = slot;
        c->act(c->owner, DSGD_AAU_ADD, slot, id, 0);
        dsgd_aau_answered(c, slot);
        break;
    case DSGD_AAU_REJECT:
        dsgd_aau_unmark(c, slot, DSGD_AAU_IS_READY);
        if (mine) dsgd_aau_answered(c, slot);
        break;
    case DSGD_AAU_COMMIT:
        if (!leads) break;
        c->act(c->owner, DSGD_AAU_LEAF, slot, id, count);
        dsgd_aau_unmark(c, slot, DSGD_AAU_IS_READY);
        dsgd_aau_to_compute(c, 0, slot);
        break;
    case DSGD_AAU_ABORT:
        if (leads) dsgd_aau_rewait(c);
        break;
    default: break;
    }
}

/* The sum cannot be finished (a leaf is lost in the middle of its parameters): nothing has happened to anybody. Those
 * that have not answered yet are told when they do. */
WEFT_FN void dsgd_aau_call_off(dsgd_aau_core *c) {
    uint32_t k;
    for (k = 0; k < c->degree; k++) {
        unsigned was = c->mark[k];
        dsgd_aau_unmark(c, k, DSGD_AAU_PENDING | DSGD_AAU_SUMMED);
        if (was & (DSGD_AAU_PENDING | DSGD_AAU_SUMMED)) dsgd_aau_unmark(c, k, DSGD_AAU_IS_READY);
        if (was & DSGD_AAU_SUMMED) dsgd_aau_send(c, k, DSGD_AAU_ABORT, c->tx, 0);
    }
    c->pending = c->summed = 0;
    dsgd_aau_rewait(c);
}

/* The grace of this session is over. */
WEFT_FN void dsgd_aau_linger(dsgd_aau_core *c, uint32_t session) {
    if (session != c->session || c->st == DSGD_AAU_COMPUTING) return;
    c->impatient = 1;
    dsgd_aau_match(c);
}

WEFT_FN void dsgd_aau_lost(dsgd_aau_core *c, uint32_t slot) {
    uint32_t e = c->edge[slot];
    unsigned was = c->mark[slot];
    if (!(was & DSGD_AAU_LINK)) return;
    dsgd_aau_unmark(c, slot, DSGD_AAU_LINK | DSGD_AAU_IS_READY);
    if (c->view[e] & 1u) {
        dsgd_aau_set_counter(c, e, c->view[e] + 1);
        dsgd_aau_new_view(c);
        dsgd_aau_grown(c, WEFT_NO_RANK);
    }
    if (c->st == DSGD_AAU_PROPOSING && (was & DSGD_AAU_PENDING))
        dsgd_aau_answered(c, slot);
    else if (c->st == DSGD_AAU_LOCKED && c->leader == slot)
        dsgd_aau_rewait(c);
    else if (c->st == DSGD_AAU_WAITING && dsgd_aau_alive_count(c))
        dsgd_aau_match(c);
    else if (c->st == DSGD_AAU_WAITING)
        dsgd_aau_go_alone(c);
}

/* A new link; the other end holds `counter` for its edge. */
WEFT_FN void dsgd_aau_up(dsgd_aau_core *c, uint32_t slot, uint32_t counter) {
    uint32_t e = c->edge[slot];
    memset(&c->told[slot], 0, sizeof c->told[slot]);
    c->mark[slot] = DSGD_AAU_LINK;
    if (counter < c->view[e]) counter = c->view[e];
    dsgd_aau_set_counter(c, e, counter + 1 + (counter & 1u));
    dsgd_aau_new_view(c);
    dsgd_aau_grown(c, WEFT_NO_RANK);
    if (c->st != DSGD_AAU_WAITING) return;
    dsgd_aau_send(c, slot, DSGD_AAU_READY, c->session, 0);
    dsgd_aau_match(c);
}

/* ---- The state on the wire ----
 *
 * A neighbour is told what it has not been told on this link: edges whose counters have changed, and merges of this
 * view and epoch. u8 flags (1: the view is complete, so what follows means something; 2: every counter is at least 1),
 * u64 hash of the sender's view, then as numbers of 7 bits a byte: epoch, how many edges, each edge and its counter,
 * and to the end the merges, two workers each. Every such message is a state below the sender's, so that joining it is
 * right whatever was lost of it on the way through another view. */

enum { DSGD_AAU_WHOLE = 1, DSGD_AAU_BASE = 2 };

WEFT_FN size_t dsgd_aau_put(unsigned char *p, uint64_t v) {
    size_t n = 0;
    for (; v >= 128; v >>= 7) p[n++] = (unsigned char)(v & 127u) | 128u;
    p[n++] = (unsigned char)v;
    return n;
}

/* Reads a number of at most `most`; 0 if there is none. */
WEFT_FN int dsgd_aau_get(const unsigned char *p, size_t bytes, size_t *at, uint64_t most, uint64_t *v) {
    unsigned shift;
    *v = 0;
    for (shift = 0; shift < 63 && *at < bytes; shift += 7) {
        unsigned char b = p[(*at)++];
        *v |= (uint64_t)(b & 127u) << shift;
        if (!(b & 128u)) return *v <= most;
    }
    return 0;
}

/* Merges that came from a neighbour need not go back to it. */
WEFT_FN void dsgd_aau_skip_own(const dsgd_aau_core *c, uint32_t slot) {
    dsgd_aau_told *t = &c->told[slot];
    if (t->epoch_mark != c->epoch_mark) return;
    while (t->merges < c->merges && c->merge[t->merges].from == slot) t->merges++;
}

WEFT_FN int dsgd_aau_untold(const dsgd_aau_core *c, uint32_t slot) {
    const dsgd_aau_told *t = &c->told[slot];
    if (!(c->mark[slot] & DSGD_AAU_LINK)) return 0;
    dsgd_aau_skip_own(c, slot);
    return t->epoch_mark != c->epoch_mark || t->merges < c->merges || t->view != c->changes || t->base < c->base;
}

/* As much as there is room for (32 bytes at least) of what a neighbour has not been told. Returns its length. */
WEFT_FN size_t dsgd_aau_tell(dsgd_aau_core *c, uint32_t slot, unsigned char *p, size_t room) {
    dsgd_aau_told *t = &c->told[slot];
    unsigned char edges[WEFT_INLINE_BYTES];
    size_t n = 0, at;
    uint32_t entries = 0;
    if (t->view != c->changes) {
        if (t->at == 0) t->goal = c->changes;
        for (; t->at < c->edges; t->at++) {
            if (c->changed[t->at] <= t->view) continue;
            if (n + 10 > room - 24 || n + 10 > sizeof edges) break; /* the next letter goes on */
            n += dsgd_aau_put(edges + n, t->at);
            n += dsgd_aau_put(edges + n, c->view[t->at]);
            entries++;
        }
        if (t->at == c->edges) {
            t->view = t->goal; /* what has changed since is for another pass */
            t->at = 0;
        }
    }
    t->base = c->base;
    p[0] = (unsigned char)((t->view == c->changes ? DSGD_AAU_WHOLE : 0) | (c->base ? DSGD_AAU_BASE : 0));
    weft_put64(p + 1, c->view_hash);
    at = 9 + dsgd_aau_put(p + 9, c->epoch);
    at += dsgd_aau_put(p + at, entries);
    memcpy(p + at, edges, n);
    at += n;
    if (t->view != c->changes) return at;
    if (t->epoch_mark != c->epoch_mark) t->merges = 0;
    t->epoch_mark = c->epoch_mark;
    for (; t->merges < c->merges && at + 10 <= room; t->merges++) {
        const dsgd_aau_merge *m = &c->merge[t->merges];
        if (m->from == slot) continue;
        at += dsgd_aau_put(p + at, m->u);
        at += dsgd_aau_put(p + at, m->v);
    }
    return at;
}

/* What a neighbour has told. 0: it is malformed, and nothing has changed. */
WEFT_FN int dsgd_aau_told_by(dsgd_aau_core *c, uint32_t slot, const unsigned char *p, size_t bytes) {
    uint64_t hash, epoch, entries, a, b, i;
    size_t at = 9, first;
    uint32_t e, grown = 0;
    if (bytes < 11 || p[0] > (DSGD_AAU_WHOLE | DSGD_AAU_BASE)) return 0;
    hash = weft_get64(p + 1);
    if (!dsgd_aau_get(p, bytes, &at, DSGD_AAU_MOST_EPOCH, &epoch) || !dsgd_aau_get(p, bytes, &at, c->edges, &entries))
        return 0;
    first = at;
    for (i = 0; i < entries; i++)
        if (!dsgd_aau_get(p, bytes, &at, c->edges - 1, &a) || !dsgd_aau_get(p, bytes, &at, DSGD_AAU_MOST_COUNTER, &b))
            return 0;
    while (at < bytes)
        if (!dsgd_aau_get(p, bytes, &at, c->workers - 1, &a) || !dsgd_aau_get(p, bytes, &at, c->workers - 1, &b))
            return 0;
    at = first;
    if ((p[0] & DSGD_AAU_BASE) && !c->base) {
        c->base = 1;
        for (e = 0; e < c->edges; e++)
            if (c->view[e] == 0) dsgd_aau_set_counter(c, e, 1);
        grown = 1;
    }
    for (i = 0; i < entries; i++) {
        dsgd_aau_get(p, bytes, &at, c->edges - 1, &a);
        dsgd_aau_get(p, bytes, &at, DSGD_AAU_MOST_COUNTER, &b);
        if (b <= c->view[a]) continue;
        dsgd_aau_set_counter(c, (uint32_t)a, (uint32_t)b);
        grown = 1;
    }
    if (grown) dsgd_aau_new_view(c);
    /* Everything that the sender's view holds is in this one's. So hashes that differ mean that this view is larger,
     * and the sender's labels are of one that is over. */
    if ((p[0] & DSGD_AAU_WHOLE) && hash == c->view_hash) {
        dsgd_aau_told *t = &c->told[slot];
        t->view = c->changes;
        t->at = 0;
        t->base = 1;
        if (epoch > c->epoch) {
            c->epochs += epoch - c->epoch;
            c->epoch = epoch;
            dsgd_aau_discrete(c);
            grown = 1;
        }
        if (epoch == c->epoch) {
            if (t->epoch_mark != c->epoch_mark) t->merges = 0;
            t->epoch_mark = c->epoch_mark;
            while (at < bytes) {
                dsgd_aau_get(p, bytes, &at, c->workers - 1, &a);
                dsgd_aau_get(p, bytes, &at, c->workers - 1, &b);
                if (c->part[a] != c->part[b]) continue; /* no edge that is up joins them */
                if (t->merges < c->merges && c->merge[t->merges].u == a && c->merge[t->merges].v == b)
                    t->merges++; /* it was to be told just this */
                grown |= (uint32_t)dsgd_aau_merge_parts(c, (uint32_t)a, (uint32_t)b, slot);
            }
        }
    }
    if (grown) dsgd_aau_grown(c, slot);
    dsgd_aau_match(c);
    return 1;
}

/* The whole of a state at once, as the specification has it: for tests and models, where messages are small. */
WEFT_FN void dsgd_aau_adopt(dsgd_aau_core *c, uint32_t slot, const uint32_t *view, uint64_t epoch,
                            const uint32_t *labels) {
    uint32_t e, more = 0, less = 0, grown = 0;
    for (e = 0; e < c->edges; e++) {
        more |= view[e] > c->view[e];
        less |= view[e] < c->view[e];
        if (view[e] > c->view[e]) dsgd_aau_set_counter(c, e, view[e]);
    }
    if (more) {
        dsgd_aau_new_view(c);
        grown = 1;
    }
    if (!less && epoch > c->epoch) {
        c->epochs += epoch - c->epoch;
        c->epoch = epoch;
        dsgd_aau_discrete(c);
        grown = 1;
    }
    if (!less && epoch == c->epoch)
        for (e = 0; e < c->workers; e++) grown |= (uint32_t)dsgd_aau_merge_parts(c, e, labels[e], slot);
    if (grown) dsgd_aau_grown(c, slot);
    dsgd_aau_match(c);
}

/* ---- Making one ---- */

WEFT_FN void dsgd_aau_core_layout(weft_layout *l, dsgd_aau_core *c, const weft_graph *graph, uint32_t me,
                                  uint32_t fan) {
    const uint32_t n = graph->workers, degree = weft_graph_degree(graph, me);
    const uint32_t width = fan < degree ? fan : degree;
    c->view = (uint32_t *)weft_layout_take(l, WEFT_TEXT("view: counters, one an edge"), graph->edges, sizeof *c->view);
    c->changed = (uint32_t *)weft_layout_take(l, WEFT_TEXT("changes of the view"), graph->edges, sizeof *c->changed);
    c->parent = (uint32_t *)weft_layout_take(l, WEFT_TEXT("labels, one a worker"), n, sizeof *c->parent);
    c->part = (uint32_t *)weft_layout_take(l, WEFT_TEXT("parts of the view"), n, sizeof *c->part);
    c->merge = (dsgd_aau_merge *)weft_layout_take(l, WEFT_TEXT("merges of the epoch"), n, sizeof *c->merge);
    c->edge = (uint32_t *)weft_layout_take(l, WEFT_TEXT("edges of this worker"), degree, sizeof *c->edge);
    c->mark = (unsigned char *)weft_layout_take(l, WEFT_TEXT("marks of neighbours"), degree, 1);
    c->order = (uint32_t *)weft_layout_take(l, WEFT_TEXT("leaves"), width, sizeof *c->order);
    c->told = (dsgd_aau_told *)weft_layout_take(l, WEFT_TEXT("what neighbours know"), degree, sizeof *c->told);
}

/* `fresh`: a worker that joins later, without any link yet. Otherwise all edges are up. */
WEFT_FN void dsgd_aau_core_start(dsgd_aau_core *c, const weft_graph *graph, uint32_t me, uint32_t fan, int grace,
                                 int fresh, dsgd_aau_act_fn act, void *owner) {
    uint32_t k;
    c->graph = graph;
    c->me = me;
    c->workers = graph->workers;
    c->edges = graph->edges;
    c->neighbour = weft_graph_neighbours(graph, me, &c->degree);
    c->fan = fan;
    c->grace = grace;
    c->act = act;
    c->owner = owner;
    c->base = !fresh;
    c->merges = c->changes = 0;
    c->view_hash = 0;
    for (k = 0; k < c->edges; k++) {
        c->view[k] = c->base;
        c->changed[k] = 0;
        c->view_hash += dsgd_aau_mix(k, c->base);
    }
    for (k = 0; k < c->degree; k++) {
        c->edge[k] = weft_graph_edge_index(graph, me, c->neighbour[k]);
        c->mark[k] = fresh ? 0 : DSGD_AAU_LINK;
        memset(&c->told[k], 0, sizeof c->told[k]);
        c->told[k].base = c->base;
    }
    c->epoch_mark = UINT32_MAX; /* 0 from here on, as in `told`: founders know the beginning */
    c->st = DSGD_AAU_COMPUTING;
    c->released = c->impatient = 0;
    c->session = c->tx = c->leader = c->leader_tx = c->pending = c->summed = 0;
    c->lingers = UINT32_MAX;
    c->epochs = c->merged = c->redundant = c->alone = c->views = 0;
    dsgd_aau_new_view(c);
    c->views = 0;
}

/* ---- The object ---- */

enum {
    DSGD_AAU_IDLE = 0,  /* the host computes */
    DSGD_AAU_AVERAGING, /* its parameters are lent */
    DSGD_AAU_JOINING,   /* waits for a link, and for a neighbour's parameters */
    DSGD_AAU_LEAVING,
    DSGD_AAU_LEFT,
    DSGD_AAU_CLOSED
};
enum { DSGD_AAU_FLAG = 1, DSGD_AAU_FLAG_AFTER = 2 };
enum { DSGD_AAU_NOTHING = 0, DSGD_AAU_SUMMING, DSGD_AAU_DRAINING, DSGD_AAU_KEEPING }; /* what comes in bulk is for */
enum { DSGD_AAU_FIELDS = 10 };
enum { DSGD_AAU_ROUNDS = 64 };     /* of a pump */
#define DSGD_AAU_MAGIC 0x64616175u /* "daau" */
#define DSGD_AAU_NEVER UINT64_MAX

/* What is due to one neighbour. One transaction at a time goes each way, and of READY and BUSY only the last counts, so
 * that nothing here can overflow, however long a neighbour does not listen. */
typedef struct dsgd_aau_due {
    int flag;       /* DSGD_AAU_READY, DSGD_AAU_BUSY or 0 */
    int flag_after; /* it goes after the transaction's message, not before */
    int tx;         /* kind of the transaction's message, or 0 */
    uint32_t flag_id, tx_id, tx_count;
    int pull, snapshot, refuse, clash, barred;
    int said;     /* the last word on this link */
    int owed;     /* it has been proposed to, and has not answered */
    int asked;    /* for its parameters: 1: no answer yet; 2: it is joining itself, and is asked again when it is not */
    int shipping; /* takes part in the bulk data under way */
    int announced; /* a letter has announced data of this kind, which is not all here; what the letter held: */
    uint32_t id, count, swap;
    int heard; /* READY or BUSY, said since then: it counts after that */
    unsigned char data[WEFT_CONTROL_BYTES - WEFT_LETTER_BYTES];
} dsgd_aau_due;

/* Where a piece of the parameters is. */
typedef struct dsgd_aau_cursor {
    size_t tensor, at, n;
} dsgd_aau_cursor;

struct dsgd_aau {
    uint32_t magic;
    dsgd_aau_desc desc; /* effective */
    dsgd_aau_core core;
    weft_links net;
    const weft_kernels *kernels;
#ifdef WEFT_CUDA
    weft_gpu gpu;
#endif
    dsgd_aau_due *due; /* one a slot */
    int busy, state, opened, loaded;
    weft_detail detail;
    uint64_t fingerprint[DSGD_AAU_FIELDS], initial_hash;
    /* parameters */
    size_t *place;      /* of each tensor in the accumulator */
    size_t wire_bytes;  /* of one model on the wire */
    unsigned char *sum; /* the accumulator */
    unsigned char *piece_in, *piece_out;
    uint32_t center, leaf; /* leaves of the star to be applied as its center, or as a leaf; 0: none */
    uint32_t averaged, by; /* its transaction, and the slot of its leader */
    int go_on;             /* then the host goes on */
    int shipping;          /* bulk data goes out, a piece at a time to all who get it */
    dsgd_aau_cursor out, in;
    size_t inline_at;
    int in_for;
    uint32_t in_slot;
    /* time */
    uint64_t linger_at, flush_at, patient_until, since_ns;
    uint64_t idle_ns, gradient_ns; /* since when the parameters are the host's; how long they were, last time */
    uint32_t linger_session;
    int timing;
    dsgd_aau_stats_t stats;
};

WEFT_FN WEFT_NOINLINE weft_status dsgd_aau_fail(dsgd_aau *g, weft_status s, uint32_t peer, const char *field,
                                                uint64_t expected, uint64_t got) {
    return weft_link_say(&g->net, &g->detail, s, peer, field, expected, got);
}

WEFT_FN void dsgd_aau_phase(dsgd_aau *g, int state, const char *phase) {
    g->state = state;
    g->net.phase = phase;
    g->net.moved = 1;
    if (state == DSGD_AAU_IDLE && g->opened && g->net.net->now) g->idle_ns = g->net.net->now(g->net.net->ctx);
}

WEFT_FN uint64_t dsgd_aau_after(const dsgd_aau *g, uint64_t ns) {
    const uint64_t now = g->net.net->now(g->net.net->ctx);
    return ns < DSGD_AAU_NEVER - now ? now + ns : DSGD_AAU_NEVER - 1;
}

/* ---- Arithmetic ----
 *
 * With the same a = 1 / (1 + d) at all ends: a leaf adds a (c - x), the leader a (sum - d x), where c, x and what is in
 * the sum are the values as they travel. So what one end gains another loses. Differences and sums are formed in the
 * accumulator: f64 for f64, f32 else. */

WEFT_FN weft_dtype dsgd_aau_wire_dtype(const dsgd_aau_desc *d, weft_dtype t) {
    return d->wire == DSGD_AAU_WIRE_BF16 && t == WEFT_F32 ? WEFT_BF16 : t;
}

WEFT_FN size_t dsgd_aau_sum_bytes(weft_dtype t) {
    return t == WEFT_F64 ? 8 : 4;
}

WEFT_FN void dsgd_aau_widen(const weft_kernels *k, weft_dtype t, size_t n, const void *x, float *y) {
    if (t == WEFT_F32)
        memcpy(y, x, n * sizeof *y);
    else
        (t == WEFT_BF16 ? k->bf16_to_f32 : k->f16_to_f32)(n, (const uint16_t *)x, y);
}

WEFT_FN void dsgd_aau_narrow(const weft_kernels *k, weft_dtype t, size_t n, const float *x, void *y) {
    if (t == WEFT_F32)
        memcpy(y, x, n * sizeof *x);
    else
        (t == WEFT_BF16 ? k->f32_to_bf16 : k->f32_to_f16)(n, x, (uint16_t *)y);
}

/* n elements of a tensor as they travel; returns how many of them are not finite. */
WEFT_FN uint64_t dsgd_aau_to_wire(const dsgd_aau *g, const weft_tensor *t, size_t at, size_t n, unsigned char *out) {
    const unsigned char *x = (const unsigned char *)t->data + at * weft_dtype_bytes(t->dtype);
    float wide[WEFT_GROUP];
    uint16_t narrow[WEFT_GROUP];
    uint64_t bad = 0;
    size_t m;
    if (dsgd_aau_wire_dtype(&g->desc, t->dtype) == t->dtype) {
        if (!out) return weft_run_count_nonfinite(g->kernels, g->desc.pool, t->dtype, n, x);
        weft_data_out(WEFT_GPU_OF(g->kernels), out, x, n * weft_dtype_bytes(t->dtype));
        return 0;
    }
#ifdef WEFT_CUDA
    if (g->kernels->gpu) { /* to the host by way of the piece that goes */
        weft_gpu *gpu = g->kernels->gpu;
        if (!out) return weft_gpu_count_as(gpu, n, t->dtype, x, WEFT_BF16);
        weft_gpu_between(gpu, WEFT_SIXTEEN_CONVERT, n, t->dtype, x, WEFT_BF16, g->piece_out);
        if (out == g->piece_out)
            weft_gpu_settle(gpu); /* it is sent next */
        else
            weft_data_out(gpu, out, g->piece_out, n * 2);
        return 0;
    }
#endif
    for (; n; n -= m, x += m * sizeof(float)) {
        m = n < WEFT_GROUP ? n : WEFT_GROUP;
        dsgd_aau_widen(g->kernels, t->dtype, m, x, wide);
        g->kernels->f32_to_bf16(m, wide, narrow);
        if (out) {
            memcpy(out, narrow, m * 2);
            out += m * 2;
        } else {
            g->kernels->bf16_to_f32(m, narrow, wide);
            bad += g->kernels->f32.count_nonfinite(m, wide);
        }
    }
    return bad;
}

/* A leaf's piece goes into the sum; the first begins it. */
WEFT_FN void dsgd_aau_add(const dsgd_aau *g, const weft_tensor *t, unsigned char *sum, const unsigned char *p, size_t n,
                          int first) {
    const weft_dtype wire = dsgd_aau_wire_dtype(&g->desc, t->dtype);
    float wide[WEFT_GROUP];
    size_t m;
    if (wire == WEFT_F64 || wire == WEFT_F32) {
        if (first)
            weft_data_copy(WEFT_GPU_OF(g->kernels), sum, p, n * weft_dtype_bytes(wire));
        else
            weft_run_axpy(g->kernels, g->desc.pool, wire, n, 1.0, p, sum);
        return;
    }
#ifdef WEFT_CUDA
    if (g->kernels->gpu) {
        weft_gpu_between(g->kernels->gpu, first ? WEFT_SIXTEEN_CONVERT : WEFT_SIXTEEN_ADD, n, wire, p, WEFT_F32, sum);
        return;
    }
#endif
    for (; n; n -= m, p += m * 2, sum += m * sizeof(float)) {
        m = n < WEFT_GROUP ? n : WEFT_GROUP;
        dsgd_aau_widen(g->kernels, wire, m, p, wide);
        if (first)
            memcpy(sum, wide, m * sizeof *wide);
        else
            g->kernels->f32.axpy(m, 1.0, wide, sum);
    }
}

/* x += (sum - times x) / (1 + d): times is d for the center, 1 for a leaf, whose "sum" is its leader's parameters as
 * they came. */
WEFT_FN void dsgd_aau_mix_tensor(const dsgd_aau *g, const weft_tensor *t, unsigned char *sum, int leaf, uint32_t d) {
    const weft_dtype wire = dsgd_aau_wire_dtype(&g->desc, t->dtype);
    const double a = 1.0 / (1.0 + (double)d), times = leaf ? 1.0 : (double)d;
    unsigned char *x = (unsigned char *)t->data;
    float own[WEFT_GROUP], difference[WEFT_GROUP], sent[WEFT_GROUP];
    uint16_t narrow[WEFT_GROUP];
    size_t n, m;
    if (wire == WEFT_F64 || wire == WEFT_F32) {
        weft_run_axpy(g->kernels, g->desc.pool, wire, t->count, -times, x, sum);
        weft_run_axpy(g->kernels, g->desc.pool, wire, t->count, a, sum, x);
        return;
    }
#ifdef WEFT_CUDA
    if (g->kernels->gpu) {
        weft_sixteen w = weft_sixteen_make(WEFT_SIXTEEN_MIX, leaf ? wire : WEFT_F32, sum, t->dtype, x);
        w.wire = wire;
        w.a = a;
        w.times = times;
        weft_gpu_note(g->kernels->gpu, weft_device_sixteen(&g->kernels->gpu->device, &w, t->count, NULL));
        return;
    }
#endif
    for (n = t->count; n; n -= m, x += m * weft_dtype_bytes(t->dtype), sum += m * (leaf ? 2 : sizeof(float))) {
        m = n < WEFT_GROUP ? n : WEFT_GROUP;
        dsgd_aau_widen(g->kernels, t->dtype, m, x, own);
        dsgd_aau_widen(g->kernels, leaf ? wire : WEFT_F32, m, sum, difference);
        dsgd_aau_narrow(g->kernels, wire, m, own, narrow); /* exact, unless the wire is narrower */
        dsgd_aau_widen(g->kernels, wire, m, narrow, sent);
        g->kernels->f32.axpy(m, -times, sent, difference);
        g->kernels->f32.axpy(m, a, difference, own);
        dsgd_aau_narrow(g->kernels, t->dtype, m, own, x);
    }
}

WEFT_FN void dsgd_aau_apply(dsgd_aau *g, int leaf, uint32_t d) {
    size_t i;
    for (i = 0; i < g->desc.params.count; i++)
        dsgd_aau_mix_tensor(g, &g->desc.params.tensor[i], g->sum + g->place[i], leaf, d);
    WEFT_GPU_SETTLE(*g->kernels); /* the accumulator is received into next */
    g->stats.partners += leaf ? 1 : d;
    weft_link_trace(&g->net, WEFT_EVENT_COMMITTED, leaf ? g->net.link[g->by].rank : g->net.net->rank, g->averaged,
                    (uint64_t)d + 1);
}

/* A snapshot of a neighbour's parameters becomes this worker's. */
WEFT_FN void dsgd_aau_take_over(dsgd_aau *g) {
    float wide[WEFT_GROUP];
    size_t i, n, m;
    for (i = 0; i < g->desc.params.count; i++) {
        const weft_tensor *t = &g->desc.params.tensor[i];
        const weft_dtype wire = dsgd_aau_wire_dtype(&g->desc, t->dtype);
        unsigned char *from = g->sum + g->place[i], *x = (unsigned char *)t->data;
        if (wire == t->dtype) {
            if (t->count) weft_data_copy(WEFT_GPU_OF(g->kernels), x, from, t->count * weft_dtype_bytes(wire));
            continue;
        }
#ifdef WEFT_CUDA
        if (g->kernels->gpu) {
            weft_gpu_between(g->kernels->gpu, WEFT_SIXTEEN_CONVERT, t->count, wire, from, t->dtype, x);
            continue;
        }
#endif
        for (n = t->count; n; n -= m, from += m * 2, x += m * sizeof(float)) {
            m = n < WEFT_GROUP ? n : WEFT_GROUP;
            dsgd_aau_widen(g->kernels, wire, m, from, wide);
            memcpy(x, wide, m * sizeof *wide);
        }
    }
    WEFT_GPU_SETTLE(*g->kernels); /* the accumulator is received into next */
}

/* ---- Pieces ---- */

/* The next piece of the parameters: elements of one tensor. 0: there is none. */
WEFT_FN int dsgd_aau_next_piece(const dsgd_aau *g, dsgd_aau_cursor *c, size_t most_bytes) {
    const weft_tensors *p = &g->desc.params;
    size_t most;
    c->at += c->n;
    c->n = 0;
    while (c->tensor < p->count && c->at == p->tensor[c->tensor].count) {
        c->tensor++;
        c->at = 0;
    }
    if (c->tensor == p->count) return 0;
    most = most_bytes / weft_dtype_bytes(dsgd_aau_wire_dtype(&g->desc, p->tensor[c->tensor].dtype));
    c->n = p->tensor[c->tensor].count - c->at;
    if (c->n > most) c->n = most;
    return 1;
}

WEFT_FN size_t dsgd_aau_piece_bytes(const dsgd_aau *g, const dsgd_aau_cursor *c) {
    return c->n * weft_dtype_bytes(dsgd_aau_wire_dtype(&g->desc, g->desc.params.tensor[c->tensor].dtype));
}

WEFT_FN int dsgd_aau_is_inline(const dsgd_aau *g) {
    return g->wire_bytes <= WEFT_INLINE_BYTES;
}

WEFT_FN int dsgd_aau_has_data(int kind) {
    return kind == DSGD_AAU_ACCEPT || kind == DSGD_AAU_COMMIT || kind == DSGD_AAU_SNAPSHOT;
}

/* Is this worker's model still needed as it is, by somebody who has been promised it? */
WEFT_FN int dsgd_aau_promised(const dsgd_aau *g, int only_unsaid) {
    uint32_t k;
    for (k = 0; k < g->net.count; k++) {
        const dsgd_aau_due *u = &g->due[k];
        if (u->snapshot || dsgd_aau_has_data(u->tx) || (!only_unsaid && u->shipping)) return 1;
    }
    return 0;
}

/* Sends this worker's parameters to all who have been told that they come, a piece at a time, the same to all. */
WEFT_FN void dsgd_aau_ship(dsgd_aau *g) {
    uint32_t k, n = 0;
    for (k = 0; k < g->net.count; k++) {
        if (!g->due[k].shipping) continue;
        if (!weft_link_sent(&g->net, k)) return;
        n++;
    }
    if (!n) {
        g->shipping = 0;
        return;
    }
    if (!g->shipping) {
        if (dsgd_aau_promised(g, 1)) return; /* they are told first, and get it together with the others */
        g->shipping = 1;
        memset(&g->out, 0, sizeof g->out);
        WEFT_GPU_SETTLE(*g->kernels); /* what is sent has been written */
    }
    if (!dsgd_aau_next_piece(g, &g->out, g->desc.piece_bytes)) {
        for (k = 0; k < g->net.count; k++) g->due[k].shipping = 0;
        g->shipping = 0;
        g->net.moved = 1;
        return;
    }
    {
        const weft_tensor *t = &g->desc.params.tensor[g->out.tensor];
        const void *data = (const unsigned char *)t->data + g->out.at * weft_dtype_bytes(t->dtype);
        if (dsgd_aau_wire_dtype(&g->desc, t->dtype) != t->dtype) {
            dsgd_aau_to_wire(g, t, g->out.at, g->out.n, g->piece_out);
            data = g->piece_out;
        }
        for (k = 0; k < g->net.count; k++)
            if (g->due[k].shipping) weft_link_send(&g->net, k, data, dsgd_aau_piece_bytes(g, &g->out));
    }
}

/* ---- What comes in bulk ----
 *
 * One neighbour's parameters at a time. A leader first waits for everybody's answer, then takes those of its leaves in
 * ascending order: the sum does not depend on who answered first. */

WEFT_FN int dsgd_aau_is_wanted(const dsgd_aau *g, uint32_t k) {
    return g->core.st == DSGD_AAU_PROPOSING && (g->core.mark[k] & DSGD_AAU_PENDING) &&
           g->due[k].announced == DSGD_AAU_ACCEPT && g->due[k].id == g->core.tx;
}

WEFT_FN int dsgd_aau_choose(dsgd_aau *g) {
    uint32_t k, unanswered = 0;
    for (k = 0; k < g->net.count; k++) unanswered += (g->core.mark[k] & DSGD_AAU_PENDING) && !dsgd_aau_is_wanted(g, k);
    for (k = 0; k < g->net.count; k++) {
        int wanted = dsgd_aau_is_wanted(g, k);
        if (!g->due[k].announced || (wanted && unanswered)) continue;
        g->in_slot = k;
        g->in_for = wanted                                                                     ? DSGD_AAU_SUMMING
                    : g->due[k].announced == DSGD_AAU_COMMIT                                   ? DSGD_AAU_KEEPING
                    : g->due[k].announced == DSGD_AAU_SNAPSHOT && g->state == DSGD_AAU_JOINING ? DSGD_AAU_KEEPING
                                                                                               : DSGD_AAU_DRAINING;
        memset(&g->in, 0, sizeof g->in);
        g->inline_at = 0;
        return dsgd_aau_next_piece(g, &g->in, g->desc.piece_bytes) ? 1 : 2;
    }
    return 0;
}

/* A piece is here. 0: it holds what no worker sends. */
WEFT_FN int dsgd_aau_take_piece(dsgd_aau *g, unsigned char *p) {
    const weft_tensor *t = &g->desc.params.tensor[g->in.tensor];
    const weft_dtype wire = dsgd_aau_wire_dtype(&g->desc, t->dtype);
    const size_t each = weft_dtype_bytes(wire);
    if (g->due[g->in_slot].swap) weft_data_swap(WEFT_GPU_OF(g->kernels), p, g->in.n * each, each);
    if (g->in_for == DSGD_AAU_DRAINING) return 1;
    if (weft_run_count_nonfinite(g->kernels, g->desc.pool, wire, g->in.n, p)) return 0;
    if (g->in_for == DSGD_AAU_SUMMING)
        dsgd_aau_add(g, t, g->sum + g->place[g->in.tensor] + g->in.at * dsgd_aau_sum_bytes(t->dtype), p, g->in.n,
                     g->core.summed == 0);
    WEFT_GPU_SETTLE(*g->kernels); /* the next piece comes to the same place */
    return 1;
}

/* Everything is here that a letter has announced. */
WEFT_FN void dsgd_aau_all_here(dsgd_aau *g) {
    const uint32_t k = g->in_slot;
    dsgd_aau_due *u = &g->due[k];
    const int kind = u->announced, heard = u->heard, kept = g->in_for == DSGD_AAU_KEEPING;
    g->in_for = DSGD_AAU_NOTHING;
    u->announced = u->heard = 0;
    g->net.moved = 1;
    if (kind != DSGD_AAU_SNAPSHOT) {
        dsgd_aau_hear(&g->core, k, kind, u->id, u->count);
    } else if (kept) {
        dsgd_aau_take_over(g);
        dsgd_aau_phase(g, DSGD_AAU_IDLE, WEFT_TEXT("computing"));
    }
    if (heard) dsgd_aau_hear(&g->core, k, heard, 0, 0);
}

WEFT_FN void dsgd_aau_fetch(dsgd_aau *g) {
    for (;;) {
        unsigned char *into;
        weft_status s;
        size_t bytes;
        if (g->in_for == DSGD_AAU_NOTHING) {
            int found = dsgd_aau_choose(g);
            if (!found) return;
            if (found == 2) { /* a model without elements */
                dsgd_aau_all_here(g);
                continue;
            }
        }
        bytes = dsgd_aau_piece_bytes(g, &g->in);
        into = g->piece_in;
        if (g->in_for == DSGD_AAU_KEEPING)
            into = g->sum + g->place[g->in.tensor] + g->in.at * (bytes / g->in.n); /* as it travels, side by side */
        if (dsgd_aau_is_inline(g)) {
            weft_data_in(WEFT_GPU_OF(g->kernels), into, g->due[g->in_slot].data + g->inline_at, bytes);
            g->inline_at += bytes;
        } else {
            if (!g->net.link[g->in_slot].in_active) weft_link_fetch(&g->net, g->in_slot, into, bytes);
            if (g->in_for == DSGD_AAU_NOTHING) continue; /* the link is down */
            s = weft_link_fetched(&g->net, g->in_slot);
            if (s == WEFT_AGAIN) return;
            if (s < 0) continue;
        }
        if (!dsgd_aau_take_piece(g, into)) {
            g->stats.nonfinite++;
            weft_link_fault(&g->net, g->in_slot, WEFT_ERR_NONFINITE, WEFT_TEXT("a neighbour's parameters"), 0, 1);
            continue;
        }
        if (!dsgd_aau_next_piece(g, &g->in, g->desc.piece_bytes)) dsgd_aau_all_here(g);
    }
}

/* ---- Actions of the machine ---- */

WEFT_FN void dsgd_aau_act(void *owner, int act, uint32_t slot, uint32_t id, uint32_t count) {
    dsgd_aau *g = (dsgd_aau *)owner;
    dsgd_aau_due *u = slot == WEFT_NO_RANK ? NULL : &g->due[slot];
    g->net.moved = 1;
    switch (act) {
    case DSGD_AAU_STATE: break; /* what a neighbour has not been told is seen when its link has room */
    case DSGD_AAU_READY:
    case DSGD_AAU_BUSY:
        u->flag = act;
        u->flag_id = id;
        u->flag_after = u->tx != 0;
        break;
    case DSGD_AAU_ADD: break;
    case DSGD_AAU_CENTER:
        g->center = count;
        g->averaged = id;
        g->stats.led++;
        break;
    case DSGD_AAU_LEAF:
        g->leaf = count;
        g->averaged = id;
        g->by = slot;
        g->stats.followed++;
        break;
    case DSGD_AAU_CONTINUE: g->go_on = 1; break;
    case DSGD_AAU_LINGER:
        g->linger_session = id;
        g->linger_at = dsgd_aau_after(g, g->desc.grace_ns ? g->desc.grace_ns : g->gradient_ns / 32);
        break;
    default:
        if (u->tx) {
            u->clash = 1; /* it has asked again before it was answered: no worker does */
            break;
        }
        u->tx = act;
        u->owed |= act == DSGD_AAU_PROPOSE;
        u->tx_id = id;
        u->tx_count = count;
        break;
    }
}

/* ---- What the links bring ---- */

WEFT_FN void dsgd_aau_on_hello(void *self, uint32_t slot, weft_header *h, unsigned char *payload) {
    const dsgd_aau *g = (const dsgd_aau *)self;
    int i;
    h->arg0 = g->core.view[g->core.edge[slot]];
    h->round = g->desc.join == DSGD_AAU_FOUND && g->desc.initial == DSGD_AAU_INITIAL_CHECK ? g->initial_hash : 0;
    for (i = 0; i < DSGD_AAU_FIELDS; i++) weft_put64(payload + 8 * i, g->fingerprint[i]);
    h->payload = 8 * DSGD_AAU_FIELDS;
}

WEFT_FN const char *dsgd_aau_field_name(int i) {
    static const char *const names[DSGD_AAU_FIELDS] = {
        "algorithm", "version",     "params.count",  "params (elements)", "params (shapes and types)",
        "wire",      "piece_bytes", "graph.workers", "graph.edges",       "graph (its edges)"};
    return names[i];
}

WEFT_FN weft_status dsgd_aau_on_up(void *self, uint32_t slot, const weft_header *h, const unsigned char *payload,
                                   weft_detail *d) {
    dsgd_aau *g = (dsgd_aau *)self;
    dsgd_aau_core *c = &g->core;
    const uint32_t e = c->edge[slot];
    weft_header mine;
    unsigned char ignore[WEFT_INLINE_BYTES];
    int i;
    if (h->payload != 8 * DSGD_AAU_FIELDS || h->arg0 > DSGD_AAU_MOST_COUNTER)
        return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("hello"), 8 * DSGD_AAU_FIELDS, h->payload);
    if (h->arg0 >= DSGD_AAU_MOST_COUNTER - 1 || c->view[e] >= DSGD_AAU_MOST_COUNTER - 1)
        return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("counter of the link (at its end)"), c->view[e], h->arg0);
    for (i = 0; i < DSGD_AAU_FIELDS; i++)
        if (weft_get64(payload + 8 * i) != g->fingerprint[i])
            return weft_refuse(d, WEFT_ERR_MISMATCH, dsgd_aau_field_name(i), g->fingerprint[i],
                               weft_get64(payload + 8 * i));
    dsgd_aau_on_hello(self, slot, &mine, ignore);
    if (h->round && mine.round && h->round != mine.round)
        return weft_refuse(d, WEFT_ERR_MISMATCH, WEFT_TEXT("hash of the initial parameters"), mine.round, h->round);
    weft_link_trace(&g->net, WEFT_EVENT_VIEW, g->net.link[slot].rank, c->session, h->arg0);
    if (c->mark[slot] & DSGD_AAU_LINK) {
        if ((c->view[e] & 1u) && h->arg0 == c->view[e])
            return WEFT_OK; /* both have counted it as up from the beginning */
        dsgd_aau_lost(c, slot);
    }
    /* odd: the other end has counted this very link as up before it said so; then both mean the same number */
    dsgd_aau_up(c, slot, (uint32_t)h->arg0 - (h->arg0 > c->view[e] && (h->arg0 & 1u)));
    return WEFT_OK;
}

WEFT_FN void dsgd_aau_on_down(void *self, uint32_t slot, int left) {
    dsgd_aau *g = (dsgd_aau *)self;
    int spoilt = 0;
    (void)left;
    if (g->in_for != DSGD_AAU_NOTHING && g->in_slot == slot) {
        /* of the first leaf nothing stays; but a later one's first pieces cannot be taken out of the sum again */
        spoilt = g->in_for == DSGD_AAU_SUMMING && g->core.summed != 0;
        g->in_for = DSGD_AAU_NOTHING;
    }
    {
        int barred = g->due[slot].barred;
        memset(&g->due[slot], 0, sizeof g->due[slot]);
        g->due[slot].barred = barred;
    }
    if (spoilt) {
        g->stats.called_off++;
        weft_link_trace(&g->net, WEFT_EVENT_ABANDONED, g->net.link[slot].rank, g->core.tx, 0);
        dsgd_aau_call_off(&g->core);
    }
    dsgd_aau_lost(&g->core, slot);
}

/* May this message come from this neighbour, now? */
WEFT_FN const char *dsgd_aau_misplaced(const dsgd_aau *g, uint32_t slot, const weft_header *h) {
    const dsgd_aau_core *c = &g->core;
    const int higher = c->neighbour[slot] > c->me;
    const int kind = (int)h->step;
    if (h->step < DSGD_AAU_STATE || h->step > DSGD_AAU_LAST_KIND) return WEFT_TEXT("letter.kind");
    if (h->round && kind != DSGD_AAU_COMMIT) return WEFT_TEXT("letter.count");
    switch (kind) {
    case DSGD_AAU_STATE: return h->payload ? NULL : WEFT_TEXT("letter.payload");
    case DSGD_AAU_PROPOSE:
    case DSGD_AAU_ABORT: return higher ? NULL : WEFT_TEXT("letter.kind (from a lower rank)");
    case DSGD_AAU_ACCEPT:
    case DSGD_AAU_REJECT: return g->due[slot].owed ? NULL : WEFT_TEXT("an answer that nobody waits for");
    case DSGD_AAU_COMMIT:
        return c->st == DSGD_AAU_LOCKED && c->leader == slot && c->leader_tx == h->piece && h->round >= 1 &&
                       h->round <= weft_graph_degree(c->graph, c->neighbour[slot])
                   ? NULL
                   : WEFT_TEXT("a commit that nobody waits for");
    case DSGD_AAU_SNAPSHOT:
    case DSGD_AAU_LATER: return g->due[slot].asked == 1 ? NULL : WEFT_TEXT("an answer that nobody waits for");
    default: return NULL;
    }
}

WEFT_FN weft_status dsgd_aau_on_letter(void *self, uint32_t slot, const weft_header *h, const unsigned char *payload,
                                       weft_detail *d) {
    dsgd_aau *g = (dsgd_aau *)self;
    const int kind = (int)h->step;
    const char *wrong = dsgd_aau_misplaced(g, slot, h);
    dsgd_aau_due *u = &g->due[slot];
    if (wrong) return weft_refuse(d, WEFT_ERR_PROTOCOL, wrong, 0, h->step);
    if (u->announced && kind >= DSGD_AAU_PROPOSE && kind <= DSGD_AAU_ABORT)
        return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("letter.kind (before its data)"), 0, h->step);
    if (dsgd_aau_has_data(kind) && dsgd_aau_is_inline(g)) {
        if (h->payload != g->wire_bytes)
            return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("letter.payload"), g->wire_bytes, h->payload);
        memcpy(u->data, payload, h->payload);
        g->net.traffic.control_received -= h->payload;
        g->net.traffic.payload_received += h->payload;
    } else if (h->payload && !dsgd_aau_told_by(&g->core, slot, payload, h->payload)) {
        return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("letter: state"), 0, h->payload);
    }
    if (kind == DSGD_AAU_ACCEPT || kind == DSGD_AAU_REJECT) u->owed = 0;
    if ((kind == DSGD_AAU_READY || kind == DSGD_AAU_BUSY) && u->asked == 2) u->asked = 0; /* who steps has joined */
    switch (kind) {
    case DSGD_AAU_STATE: break;
    case DSGD_AAU_SNAPSHOT:
    case DSGD_AAU_ACCEPT:
    case DSGD_AAU_COMMIT:
        if (kind == DSGD_AAU_SNAPSHOT) u->asked = 0;
        u->announced = kind;
        u->id = h->piece;
        u->count = (uint32_t)h->round;
        u->swap = h->big_endian != weft_big_endian();
        break;
    case DSGD_AAU_PULL:
        /* no promise: data from several that have been asked could block each other */
        u->refuse = g->state == DSGD_AAU_JOINING;
        u->snapshot = !u->refuse;
        break;
    case DSGD_AAU_LATER: u->asked = 2; break;
    default:
        if (u->announced)
            u->heard = kind;
        else
            dsgd_aau_hear(&g->core, slot, kind, h->piece, 0);
        break;
    }
    return WEFT_OK;
}

WEFT_FN int dsgd_aau_is_busy(void *self, uint32_t slot) {
    return ((const dsgd_aau *)self)->due[slot].announced;
}

/* ---- What is due to a neighbour ---- */

/* The inline data of a letter. */
WEFT_FN uint32_t dsgd_aau_pack(const dsgd_aau *g, unsigned char *p) {
    dsgd_aau_cursor c;
    uint32_t n = 0;
    memset(&c, 0, sizeof c);
    while (dsgd_aau_next_piece(g, &c, g->desc.piece_bytes)) {
        dsgd_aau_to_wire(g, &g->desc.params.tensor[c.tensor], c.at, c.n, p + n);
        n += (uint32_t)dsgd_aau_piece_bytes(g, &c);
    }
    return n;
}

/* Nothing overtakes the news that it follows from: they go first, or in the same letter. */
WEFT_FN void dsgd_aau_post(dsgd_aau *g, uint32_t k) {
    dsgd_aau_due *u = &g->due[k];
    while (g->net.link[k].state == WEFT_LINK_UP && !g->net.link[k].failing && !u->said &&
           weft_link_room(&g->net.link[k])) {
        unsigned char payload[WEFT_INLINE_BYTES];
        weft_header h;
        int kind = 0, packed = 0, flag = 0;
        memset(&h, 0, sizeof h);
        if (u->flag && !u->flag_after) {
            kind = u->flag;
            flag = 1;
        } else if (u->tx) {
            if (!dsgd_aau_has_data(u->tx) || !g->shipping) kind = u->tx;
        } else if (u->pull) {
            kind = DSGD_AAU_PULL;
        } else if (u->refuse) {
            kind = DSGD_AAU_LATER;
        } else if (u->snapshot && g->state == DSGD_AAU_AVERAGING && !g->shipping && !u->shipping) {
            kind = DSGD_AAU_SNAPSHOT;
        }
        if (kind == 0 && u->flag && !u->tx) {
            kind = u->flag;
            flag = 1;
        }
        packed = dsgd_aau_has_data(kind) && dsgd_aau_is_inline(g);
        if (dsgd_aau_untold(&g->core, k)) {
            if (!kind && g->flush_at == DSGD_AAU_NEVER && g->desc.coalesce_ns)
                g->flush_at = dsgd_aau_after(g, g->desc.coalesce_ns);
            if (!kind && g->flush_at) return; /* it may find a letter to travel with */
            h.payload = (uint32_t)dsgd_aau_tell(&g->core, k, payload, sizeof payload);
            if (packed || dsgd_aau_untold(&g->core, k)) kind = DSGD_AAU_STATE; /* the rest goes first */
            if (!kind) kind = DSGD_AAU_STATE;
        }
        if (!kind) return;
        h.kind = WEFT_LINK_LETTER;
        h.step = (uint32_t)kind;
        if (kind == u->tx) {
            h.piece = u->tx_id;
            h.round = kind == DSGD_AAU_COMMIT ? u->tx_count : 0;
        } else if (flag) {
            h.piece = u->flag_id;
        }
        if (kind != DSGD_AAU_STATE) {
            if (dsgd_aau_has_data(kind)) {
                if (packed) h.payload = dsgd_aau_pack(g, payload);
                u->shipping = !packed && g->wire_bytes != 0;
                if (kind == DSGD_AAU_SNAPSHOT) u->snapshot = 0;
            }
            if (kind == u->tx)
                u->tx = 0;
            else if (flag)
                u->flag = 0;
            else if (kind == DSGD_AAU_PULL)
                u->pull = 0;
            else if (kind == DSGD_AAU_LATER)
                u->refuse = 0;
        }
        if (weft_link_post(&g->net, k, &h, payload, h.payload) == WEFT_OK && packed && kind != DSGD_AAU_STATE) {
            g->net.traffic.control_sent -= h.payload;
            g->net.traffic.payload_sent += h.payload;
        }
    }
}

/* ---- Driving ---- */

/* Says hello to all neighbours that are not known to be gone. */
WEFT_FN void dsgd_aau_open(dsgd_aau *g) {
    uint32_t k;
    if (g->opened) return;
    g->opened = 1;
    if (g->net.net->now) g->idle_ns = g->net.net->now(g->net.net->ctx);
    for (k = 0; k < g->net.count; k++)
        if (!g->due[k].barred) weft_link_open(&g->net, k);
}

WEFT_FN void dsgd_aau_timers(dsgd_aau *g) {
    uint64_t now;
    if (g->linger_at == DSGD_AAU_NEVER && g->patient_until == DSGD_AAU_NEVER &&
        (g->flush_at == DSGD_AAU_NEVER || !g->flush_at))
        return;
    now = g->net.net->now(g->net.net->ctx);
    if (now >= g->flush_at) g->flush_at = 0; /* until everything is told */
    if (now >= g->linger_at) {
        g->linger_at = DSGD_AAU_NEVER;
        dsgd_aau_linger(&g->core, g->linger_session);
    }
    if (now >= g->patient_until && g->core.st == DSGD_AAU_WAITING) {
        g->patient_until = DSGD_AAU_NEVER;
        dsgd_aau_go_alone(&g->core);
    }
}

/* The averaging is agreed, and what it needs of this worker is on its way: now it takes place here. */
WEFT_FN void dsgd_aau_settle(dsgd_aau *g) {
    if (g->state != DSGD_AAU_AVERAGING || !g->go_on || g->shipping || dsgd_aau_promised(g, 0)) return;
    if (g->center) dsgd_aau_apply(g, 0, g->center);
    if (g->leaf) dsgd_aau_apply(g, 1, g->leaf);
    if (!g->center && !g->leaf) g->stats.alone++;
    g->center = g->leaf = 0;
    g->go_on = 0;
    g->linger_at = g->patient_until = DSGD_AAU_NEVER;
    if (g->desc.coalesce_ns) g->flush_at = 0; /* who knows when the host looks in again */
    dsgd_aau_phase(g, DSGD_AAU_IDLE, WEFT_TEXT("computing"));
}

/* A worker that joins asks its neighbours, one at a time, until one is not joining itself. If all of them are, the
 * lowest of them begins with what it has, and is asked again once it takes steps. */
WEFT_FN void dsgd_aau_join_poll(dsgd_aau *g) {
    uint32_t k, up = 0, opening = 0, lower = 0, first = WEFT_NO_RANK;
    if (g->state != DSGD_AAU_JOINING) return;
    for (k = 0; k < g->net.count; k++) {
        opening += g->net.link[k].state == WEFT_LINK_OPENING;
        if (g->net.link[k].state != WEFT_LINK_UP) continue;
        if (g->due[k].asked == 1 || g->due[k].announced) return; /* an answer is under way */
        if (!g->due[k].asked && first == WEFT_NO_RANK) first = k;
        up++;
        lower += g->core.neighbour[k] < g->core.me;
    }
    if (!up) return;
    if (g->desc.join == DSGD_AAU_REJOIN || (first == WEFT_NO_RANK && !opening && !lower)) {
        dsgd_aau_phase(g, DSGD_AAU_IDLE, WEFT_TEXT("computing"));
    } else if (first != WEFT_NO_RANK) {
        g->due[first].pull = g->due[first].asked = 1;
        g->net.moved = 1;
    }
}

WEFT_FN void dsgd_aau_leave_poll(dsgd_aau *g) {
    uint32_t k, left = 0;
    if (g->state != DSGD_AAU_LEAVING) return;
    for (k = 0; k < g->net.count; k++) {
        weft_link *l = &g->net.link[k];
        dsgd_aau_due *u = &g->due[k];
        if (l->state == WEFT_LINK_UP && !u->said && !u->tx && !u->flag && !u->announced &&
            !dsgd_aau_untold(&g->core, k)) {
            u->said = l->bye_due = 1;
            g->net.moved = 1;
        }
        /* the other end may be leaving, too, and wait until what it has said is read */
        left += l->state == WEFT_LINK_OPENING || (l->state == WEFT_LINK_UP && (!u->said || l->bye_due));
    }
    if (left || !weft_links_flushed(&g->net)) return;
    weft_links_close(&g->net);
    dsgd_aau_phase(g, DSGD_AAU_LEFT, WEFT_TEXT("gone"));
}

WEFT_FN void dsgd_aau_pump(dsgd_aau *g) {
    int round;
    uint32_t k, untold = 0;
    for (round = 0; round < DSGD_AAU_ROUNDS; round++) {
        g->net.moved = 0;
        for (k = 0; k < g->net.count; k++) weft_link_pump(&g->net, k);
        dsgd_aau_timers(g);
        dsgd_aau_fetch(g);
        dsgd_aau_join_poll(g);
        for (k = 0; k < g->net.count; k++) {
            if (g->due[k].clash) {
                g->due[k].clash = 0;
                weft_link_fault(&g->net, k, WEFT_ERR_PROTOCOL, WEFT_TEXT("a second transaction"), 0, 1);
            }
            dsgd_aau_post(g, k);
        }
        dsgd_aau_ship(g);
        dsgd_aau_settle(g);
        dsgd_aau_leave_poll(g);
        if (!g->net.moved) break;
    }
    for (k = 0; k < g->net.count; k++) untold += g->net.link[k].state == WEFT_LINK_UP && dsgd_aau_untold(&g->core, k);
    if (!untold) g->flush_at = g->desc.coalesce_ns ? DSGD_AAU_NEVER : 0;
}

/* Nothing has moved for timeout_ns: said once a time-out, and nothing is lost. */
WEFT_FN weft_status dsgd_aau_deadline(dsgd_aau *g) {
    uint64_t now;
    if (!g->desc.timeout_ns) return WEFT_AGAIN;
    now = g->net.net->now(g->net.net->ctx);
    if (g->net.progress || !g->timing) {
        g->net.progress = 0;
        g->timing = 1;
        g->since_ns = now;
    }
    if (now - g->since_ns < g->desc.timeout_ns) return WEFT_AGAIN;
    g->timing = 0;
    return dsgd_aau_fail(g, WEFT_ERR_TIMEOUT, WEFT_NO_RANK, WEFT_TEXT("timeout_ns"), g->desc.timeout_ns,
                         now - g->since_ns);
}

WEFT_FN weft_status dsgd_aau_drive(dsgd_aau *g) {
    uint32_t k;
    dsgd_aau_pump(g);
    if (g->net.refused) {
        weft_status s = g->net.refused;
        g->detail = g->net.fault;
        g->net.refused = WEFT_OK;
        return s;
    }
    if (g->state == DSGD_AAU_IDLE || g->state == DSGD_AAU_LEFT) return WEFT_OK;
    for (k = 0; k < g->net.count; k++)
        if (g->net.link[k].state == WEFT_LINK_UP || g->net.link[k].state == WEFT_LINK_OPENING) break;
    if (g->state == DSGD_AAU_JOINING && k == g->net.count)
        return dsgd_aau_fail(g, WEFT_ERR_PEER_LOST, WEFT_NO_RANK, WEFT_TEXT("neighbours (nobody to join)"), 1, 0);
    return dsgd_aau_deadline(g);
}

/* ---- Descriptor and memory ---- */

WEFT_FN weft_status dsgd_aau_check(const dsgd_aau_desc *in, size_t desc_size, uint32_t abi, dsgd_aau_desc *out,
                                   weft_detail *d) {
    weft_status s;
    uint64_t most;
    if (!in) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc"), 1, 0);
    if (abi != WEFT_ABI) return weft_refuse(d, WEFT_ERR_ABI, WEFT_TEXT("header version"), WEFT_ABI, abi);
    if (desc_size != sizeof *in)
        return weft_refuse(d, WEFT_ERR_ABI, WEFT_TEXT("sizeof(dsgd_aau_desc)"), sizeof *in, desc_size);
    if (in->struct_size != sizeof *in)
        return weft_refuse(d, WEFT_ERR_ABI, WEFT_TEXT("desc.struct_size"), sizeof *in, in->struct_size);
    *out = *in;
    if ((s = weft_transport_check(in->transport, d)) != WEFT_OK) return s;
    if ((s = weft_tensors_check(&in->params, 0, d)) != WEFT_OK) return s;
    if ((s = weft_graph_check(in->graph, in->transport->size, d)) != WEFT_OK) return s;
    if (in->channel >= WEFT_CHANNELS)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.channel"), WEFT_CHANNELS - 1, in->channel);
    if (!weft_kernels_select(in->isa, 0))
        return weft_refuse(d, WEFT_ERR_UNSUPPORTED, WEFT_TEXT("desc.isa"), 0, (uint64_t)in->isa);
    if ((uint64_t)in->join > DSGD_AAU_REJOIN)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.join"), DSGD_AAU_REJOIN, (uint64_t)in->join);
    if ((uint64_t)in->initial > DSGD_AAU_INITIAL_KEEP)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.initial"), DSGD_AAU_INITIAL_KEEP,
                           (uint64_t)in->initial);
    if ((uint64_t)in->wire > DSGD_AAU_WIRE_BF16)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.wire"), DSGD_AAU_WIRE_BF16, (uint64_t)in->wire);
    if ((s = WEFT_GPU_CHECK(in, d)) != WEFT_OK) return s;
    out->isa = weft_isa_resolve(in->isa);
    out->fan = in->fan ? in->fan : 8;
    out->piece_bytes = in->piece_bytes ? in->piece_bytes : 262144;
    if (out->piece_bytes < 1024)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.piece_bytes"), 1024, in->piece_bytes);
    most = in->transport->max_message_bytes;
    if (most && most < out->piece_bytes) out->piece_bytes = (uint32_t)most;
    out->piece_bytes = out->piece_bytes / 64 * 64;
    if (((in->grace_ns && in->grace_ns != DSGD_AAU_NO_GRACE) || in->coalesce_ns || in->patience_ns || in->timeout_ns) &&
        !in->transport->now)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("transport.now (for a deadline)"), 1, 0);
    return WEFT_OK;
}

WEFT_FN dsgd_aau *dsgd_aau_lay_out(weft_layout *l, const dsgd_aau_desc *d, dsgd_aau *tmp) {
    const uint32_t degree = weft_graph_degree(d->graph, d->transport->rank);
    dsgd_aau *made = (dsgd_aau *)weft_layout_take(l, WEFT_TEXT("dsgd_aau"), 1, sizeof(dsgd_aau));
    dsgd_aau *g = made ? made : tmp;
    size_t i, at = 0, wire = 0, most = 0;
    memset(g, 0, sizeof *g);
    g->net.link = (weft_link *)weft_layout_take(l, WEFT_TEXT("links, one a neighbour"), degree, sizeof(weft_link));
    g->due = (dsgd_aau_due *)weft_layout_take(l, WEFT_TEXT("what is due to neighbours"), degree, sizeof(dsgd_aau_due));
    dsgd_aau_core_layout(l, &g->core, d->graph, d->transport->rank, d->fan);
    g->place = (size_t *)weft_layout_take(l, WEFT_TEXT("places of tensors"), d->params.count, sizeof(size_t));
    for (i = 0; i < d->params.count; i++) {
        const weft_tensor *t = &d->params.tensor[i];
        const size_t each = weft_dtype_bytes(dsgd_aau_wire_dtype(d, t->dtype));
        size_t bytes = 0;
        if (g->place) g->place[i] = at;
        if (!weft_mul_size(t->count, dsgd_aau_sum_bytes(t->dtype), &bytes) ||
            !weft_add_size(bytes, WEFT_ALIGNMENT - 1, &bytes) ||
            !weft_add_size(at, bytes / WEFT_ALIGNMENT * WEFT_ALIGNMENT, &at))
            l->overflow = 1;
        wire += t->count * each; /* no more than `at` */
        if (t->count * each > most) most = t->count * each;
    }
    if (most > d->piece_bytes) most = d->piece_bytes;
    g->wire_bytes = wire;
    g->sum = (unsigned char *)weft_layout_data(l, WEFT_TEXT("accumulator"), degree ? at : 0, 1);
    g->piece_in = (unsigned char *)weft_layout_data(l, WEFT_TEXT("a piece that comes"), degree ? most : 0, 1);
    g->piece_out = (unsigned char *)weft_layout_data(l, WEFT_TEXT("a piece that goes"),
                                                     degree && d->wire == DSGD_AAU_WIRE_BF16 ? most : 0, 1);
    WEFT_GPU_LAYOUT(l, &g->gpu, &d->params, &d->params, 1);
    return made;
}

DSGD_AAU_API size_t dsgd_aau_memory_abi(const dsgd_aau_desc *desc, weft_memory_report *report, size_t desc_size,
                                        uint32_t abi) {
    weft_layout l;
    weft_detail detail = weft_detail_none();
    dsgd_aau_desc d;
    dsgd_aau tmp;
    size_t total = 0;
    memset(&l, 0, sizeof l);
    if (report) memset(report, 0, sizeof *report);
    l.report = report;
    if (dsgd_aau_check(desc, desc_size, abi, &d, &detail) == WEFT_OK) {
        WEFT_GPU_LEND(&l, &d);
        dsgd_aau_lay_out(&l, &d, &tmp);
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

WEFT_FN void dsgd_aau_fingerprint(dsgd_aau *g) {
    const dsgd_aau_desc *d = &g->desc;
    uint64_t *f = g->fingerprint, h = 0;
    size_t i;
    f[0] = DSGD_AAU_MAGIC;
    f[1] = WEFT_VERSION;
    f[2] = d->params.count;
    f[3] = weft_tensors_elements(&d->params);
    for (i = 0; i < d->params.count; i++)
        h = weft_mix(h + weft_mix(d->params.tensor[i].count) + (uint64_t)d->params.tensor[i].dtype);
    f[4] = h;
    f[5] = (uint64_t)d->wire;
    f[6] = d->piece_bytes;
    f[7] = d->graph->workers;
    f[8] = d->graph->edges;
    f[9] = weft_graph_hash(d->graph);
}

/* The parameters that training starts from. */
WEFT_FN void dsgd_aau_look_at_start(dsgd_aau *g) {
    size_t i;
    uint64_t first = 0, h = 0;
    for (i = 0; i < g->desc.params.count; i++) {
        const weft_tensor *t = &g->desc.params.tensor[i];
        h += weft_run_hash(g->kernels, g->desc.pool, t->dtype, t->count, first, t->data);
        first += t->count;
    }
    g->initial_hash = h ? h : 1;
}

DSGD_AAU_API weft_status dsgd_aau_init_abi(dsgd_aau **out, const dsgd_aau_desc *desc, void *memory, size_t bytes,
                                           weft_detail *detail, size_t desc_size, uint32_t abi) {
    weft_detail why = weft_detail_none();
    weft_detail *say = detail ? detail : &why;
    weft_layout l;
    dsgd_aau_desc d;
    dsgd_aau *g;
    size_t need;
    uint32_t k;
    weft_status s;
    *say = why;
    if (!out) return weft_refuse(say, WEFT_ERR_ARGUMENT, WEFT_TEXT("out"), 1, 0);
    *out = NULL;
    if ((s = dsgd_aau_check(desc, desc_size, abi, &d, say)) != WEFT_OK) return s;
    need = dsgd_aau_memory_abi(desc, NULL, desc_size, abi);
    if (!need) return weft_refuse(say, WEFT_ERR_OVERFLOW, WEFT_TEXT("memory"), SIZE_MAX, 0);
    if (!memory || bytes < need) return weft_refuse(say, WEFT_ERR_MEMORY, WEFT_TEXT("bytes"), need, memory ? bytes : 0);
    if ((s = weft_float_probe(say)) != WEFT_OK) return s;
    memset(&l, 0, sizeof l);
    l.base = weft_align_memory(memory);
    WEFT_GPU_LEND(&l, &d);
    g = dsgd_aau_lay_out(&l, &d, NULL);
    g->magic = DSGD_AAU_MAGIC;
    g->desc = d;
    g->detail = weft_detail_none();
    g->net.detail = g->net.fault = g->detail;
    g->net.net = d.transport;
    g->net.channel = d.channel;
    g->net.trace = d.trace;
    g->net.trace_ctx = d.trace_ctx;
    g->net.owner.self = g;
    g->net.owner.hello = dsgd_aau_on_hello;
    g->net.owner.up = dsgd_aau_on_up;
    g->net.owner.down = dsgd_aau_on_down;
    g->net.owner.letter = dsgd_aau_on_letter;
    g->net.owner.busy = dsgd_aau_is_busy;
    dsgd_aau_core_start(&g->core, d.graph, d.transport->rank, d.fan,
                        d.grace_ns != DSGD_AAU_NO_GRACE && d.transport->now != NULL, d.join != DSGD_AAU_FOUND,
                        dsgd_aau_act, g);
    g->net.count = g->core.degree;
    memset(g->net.link, 0, g->net.count * sizeof *g->net.link);
    memset(g->due, 0, g->net.count * sizeof *g->due);
    for (k = 0; k < g->net.count; k++) g->net.link[k].rank = g->core.neighbour[k];
    g->kernels = weft_kernels_select(d.isa, g->wire_bytes);
    s = WEFT_GPU_INIT(&g->gpu, &d, &l, &g->kernels, say);
    if (s != WEFT_OK) return s;
    WEFT_GPU_USE(g->net, &d, &g->gpu);
    g->linger_at = g->patient_until = DSGD_AAU_NEVER;
    g->flush_at = d.coalesce_ns ? DSGD_AAU_NEVER : 0;
    dsgd_aau_fingerprint(g);
    dsgd_aau_look_at_start(g);
    dsgd_aau_phase(g, DSGD_AAU_IDLE, WEFT_TEXT("computing"));
#ifdef WEFT_CUDA
    if (WEFT_GPU_IS_BROKEN(&g->net))
        return weft_refuse(say, g->gpu.failed, WEFT_TEXT("cuda"), 0, (uint64_t)g->gpu.device.error);
#endif
    *out = g;
    return WEFT_OK;
}

/* ---- Verbs ---- */

/* A verb begins. `states`: bit a state in which it is legal. Ends with dsgd_aau_exit. */
WEFT_FN weft_status dsgd_aau_enter(dsgd_aau *g, uint32_t states) {
    if (!g || g->magic != DSGD_AAU_MAGIC) return WEFT_ERR_ARGUMENT;
    if (g->busy) return WEFT_ERR_REENTRY;
    if (!(states >> g->state & 1u))
        return dsgd_aau_fail(g, WEFT_ERR_ORDER, WEFT_NO_RANK, WEFT_TEXT("state"), states, (uint64_t)g->state);
    g->busy = 1;
    g->detail = weft_detail_none();
    return WEFT_OK;
}

WEFT_FN WEFT_NOINLINE weft_status dsgd_aau_exit(dsgd_aau *g, weft_status s) {
    g->busy = 0;
#ifdef WEFT_CUDA
    if (WEFT_GPU_IS_BROKEN(&g->net)) /* whatever else came of it */
        s = dsgd_aau_fail(g, g->gpu.failed, WEFT_NO_RANK, WEFT_TEXT("cuda"), 0, (uint64_t)g->gpu.device.error);
#endif
    if (s > 0) g->detail.status = s;
    return s;
}

#define DSGD_AAU_ONLY_IDLE (1u << DSGD_AAU_IDLE)
#define DSGD_AAU_ANY_LIVE ((1u << DSGD_AAU_LEFT) - 1u)

DSGD_AAU_API weft_status dsgd_aau_start(dsgd_aau *g) {
    weft_status s = dsgd_aau_enter(g, DSGD_AAU_ONLY_IDLE);
    if (s != WEFT_OK) return s;
    if (g->opened) return dsgd_aau_exit(g, dsgd_aau_drive(g));
    dsgd_aau_look_at_start(g); /* they may have been filled in since init */
    dsgd_aau_open(g);
    if (g->desc.join != DSGD_AAU_FOUND && g->net.count) /* who has no neighbours joins nobody */
        dsgd_aau_phase(g, DSGD_AAU_JOINING, WEFT_TEXT("joining"));
    return dsgd_aau_exit(g, dsgd_aau_drive(g));
}

DSGD_AAU_API weft_status dsgd_aau_step(dsgd_aau *g) {
    size_t i;
    weft_status s = dsgd_aau_enter(g, DSGD_AAU_ONLY_IDLE);
    if (s != WEFT_OK) return s;
    if (!g->opened && g->desc.join != DSGD_AAU_FOUND)
        return dsgd_aau_exit(
            g, dsgd_aau_fail(g, WEFT_ERR_ORDER, WEFT_NO_RANK, WEFT_TEXT("dsgd_aau_start (to join)"), 1, 0));
    for (i = 0; i < g->desc.params.count; i++) {
        const weft_tensor *t = &g->desc.params.tensor[i];
        uint64_t bad = dsgd_aau_to_wire(g, t, 0, t->count, NULL);
        if (!bad) continue;
        g->stats.nonfinite++;
        return dsgd_aau_exit(g, dsgd_aau_fail(g, WEFT_ERR_NONFINITE, g->core.me, WEFT_TEXT("params"), i, bad));
    }
    if (g->opened && g->net.net->now) g->gradient_ns = g->net.net->now(g->net.net->ctx) - g->idle_ns;
    dsgd_aau_open(g);
    g->stats.steps++;
    g->net.round = g->stats.steps;
    dsgd_aau_phase(g, DSGD_AAU_AVERAGING, WEFT_TEXT("averaging"));
    weft_link_trace(&g->net, WEFT_EVENT_ROUND_BEGUN, WEFT_NO_RANK, g->stats.steps, 0);
    g->timing = 0;
    if (g->desc.patience_ns) g->patient_until = dsgd_aau_after(g, g->desc.patience_ns);
    dsgd_aau_done(&g->core);
    return dsgd_aau_exit(g, dsgd_aau_drive(g));
}

DSGD_AAU_API weft_status dsgd_aau_poll(dsgd_aau *g) {
    weft_status s = dsgd_aau_enter(g, DSGD_AAU_ANY_LIVE | 1u << DSGD_AAU_LEFT);
    return s != WEFT_OK ? s : dsgd_aau_exit(g, dsgd_aau_drive(g));
}

DSGD_AAU_API uint64_t dsgd_aau_wake_ns(const dsgd_aau *g) {
    uint64_t at = DSGD_AAU_NEVER, until;
    if (!g || g->magic != DSGD_AAU_MAGIC || g->state >= DSGD_AAU_LEFT) return at;
    if (g->net.moved) return 0; /* the last verb had more to do than it may at a time */
    if (g->linger_at < at) at = g->linger_at;
    if (g->patient_until < at && g->core.st == DSGD_AAU_WAITING) at = g->patient_until;
    if (g->desc.coalesce_ns && g->flush_at && g->flush_at < at) at = g->flush_at;
    if (g->desc.timeout_ns && g->state != DSGD_AAU_IDLE && g->timing) {
        until = g->since_ns < DSGD_AAU_NEVER - g->desc.timeout_ns ? g->since_ns + g->desc.timeout_ns : DSGD_AAU_NEVER;
        if (until < at) at = until;
    }
    return at;
}

DSGD_AAU_API weft_status dsgd_aau_wait(dsgd_aau *g) {
    for (;;) {
        weft_status s = dsgd_aau_poll(g);
        if (s != WEFT_AGAIN) return s;
        if (g->net.net->wait) g->net.net->wait(g->net.net->ctx, dsgd_aau_wake_ns(g));
    }
}

DSGD_AAU_API weft_status dsgd_aau_leave(dsgd_aau *g) {
    weft_status s = dsgd_aau_enter(g, DSGD_AAU_ONLY_IDLE);
    if (s != WEFT_OK) return s;
    dsgd_aau_open(g);
    g->timing = 0;
    dsgd_aau_phase(g, DSGD_AAU_LEAVING, WEFT_TEXT("saying good-bye"));
    return dsgd_aau_exit(g, dsgd_aau_drive(g));
}

WEFT_FN weft_status dsgd_aau_set_link(dsgd_aau *g, uint32_t rank, int up) {
    uint32_t k;
    weft_status s = dsgd_aau_enter(g, DSGD_AAU_ANY_LIVE);
    if (s != WEFT_OK) return s;
    if (rank >= g->core.workers || rank == g->core.me)
        return dsgd_aau_exit(g, dsgd_aau_fail(g, WEFT_ERR_ARGUMENT, rank, WEFT_TEXT("rank"), g->core.workers, rank));
    k = weft_graph_slot(g->desc.graph, g->core.me, rank);
    if (k == WEFT_NO_EDGE) return dsgd_aau_exit(g, WEFT_OK);
    g->due[k].barred = !up;
    if (!g->opened) {
        if (!up) dsgd_aau_lost(&g->core, k); /* a founder has counted it as up */
        return dsgd_aau_exit(g, WEFT_OK);
    }
    weft_link_down(&g->net, k, 0);
    g->net.link[k].faults = 0;
    g->net.link[k].bye_due = !up; /* it may live, and wait for this worker */
    if (up && g->state != DSGD_AAU_LEAVING) weft_link_open(&g->net, k);
    return dsgd_aau_exit(g, WEFT_OK);
}

DSGD_AAU_API weft_status dsgd_aau_peer_lost(dsgd_aau *g, uint32_t rank) {
    return dsgd_aau_set_link(g, rank, 0);
}

DSGD_AAU_API weft_status dsgd_aau_peer_up(dsgd_aau *g, uint32_t rank) {
    return dsgd_aau_set_link(g, rank, 1);
}

/* ---- Saved state ---- */

/* All of it in order: measured, written and read by the same lines. */
WEFT_FN void dsgd_aau_blob(dsgd_aau_stats_t *s, weft_blob *b) {
    uint64_t *counters[10];
    size_t i, n = 0;
    counters[n++] = &s->steps;
    counters[n++] = &s->led;
    counters[n++] = &s->followed;
    counters[n++] = &s->partners;
    counters[n++] = &s->alone;
    counters[n++] = &s->called_off;
    counters[n++] = &s->nonfinite;
    counters[n++] = &s->merges;
    counters[n++] = &s->redundant;
    counters[n++] = &s->epochs;
    for (i = 0; i < n; i++) weft_blob_u64(b, counters[i]);
}

enum { DSGD_AAU_BLOB_BYTES = WEFT_BLOB_HEAD + 10 * 8 + WEFT_BLOB_TAIL };

WEFT_FN uint64_t dsgd_aau_blob_fingerprint(const dsgd_aau *g) {
    uint64_t h = g->core.me;
    int i;
    for (i = 0; i < DSGD_AAU_FIELDS; i++) h = weft_mix(h + g->fingerprint[i]);
    return h;
}

DSGD_AAU_API weft_status dsgd_aau_save_to(dsgd_aau *g, weft_write_fn write, void *ctx, size_t *bytes) {
    weft_blob b;
    weft_detail why = weft_detail_none();
    dsgd_aau_stats_t now;
    weft_status s = dsgd_aau_enter(g, DSGD_AAU_ONLY_IDLE);
    if (s != WEFT_OK) return s;
    s = weft_blob_begin(&b, write, ctx, DSGD_AAU_BLOB_BYTES, dsgd_aau_blob_fingerprint(g), bytes, &why);
    if (s == WEFT_OK) {
        dsgd_aau_stats(g, &now);
        dsgd_aau_blob(&now, &b);
        s = weft_blob_end(&b, 1, &why);
    }
    if (s != WEFT_OK) (void)dsgd_aau_fail(g, s, WEFT_NO_RANK, why.field, why.expected, why.got);
    return dsgd_aau_exit(g, s);
}

DSGD_AAU_API weft_status dsgd_aau_save(dsgd_aau *g, void *buf, size_t capacity, size_t *bytes) {
    weft_blob_buffer m;
    m.to = (unsigned char *)buf;
    m.bytes = capacity;
    return dsgd_aau_save_to(g, buf ? weft_blob_to_buffer : NULL, &m, bytes);
}

DSGD_AAU_API weft_status dsgd_aau_load_from(dsgd_aau *g, weft_read_fn read, void *ctx, size_t bytes) {
    weft_blob b;
    weft_detail why = weft_detail_none();
    dsgd_aau_stats_t loaded;
    weft_status s = dsgd_aau_enter(g, DSGD_AAU_ONLY_IDLE);
    if (s != WEFT_OK) return s;
    if (!(dsgd_aau_state(g) & DSGD_AAU_MAY_LOAD))
        return dsgd_aau_exit(g, dsgd_aau_fail(g, WEFT_ERR_ORDER, WEFT_NO_RANK, WEFT_TEXT("steps"), 0, g->stats.steps));
    s = weft_blob_check(&b, read, ctx, bytes, DSGD_AAU_BLOB_BYTES, dsgd_aau_blob_fingerprint(g), &why);
    if (s == WEFT_OK) {
        memset(&loaded, 0, sizeof loaded);
        dsgd_aau_blob(&loaded, &b);
        s = weft_blob_end(&b, 1, &why);
    }
    if (s != WEFT_OK) return dsgd_aau_exit(g, dsgd_aau_fail(g, s, WEFT_NO_RANK, why.field, why.expected, why.got));
    g->stats = loaded;
    g->net.round = loaded.steps;
    return dsgd_aau_exit(g, WEFT_OK);
}

DSGD_AAU_API weft_status dsgd_aau_load(dsgd_aau *g, const void *buf, size_t bytes) {
    weft_blob_buffer m;
    m.from = (const unsigned char *)buf;
    return dsgd_aau_load_from(g, buf ? weft_blob_from_buffer : NULL, &m, bytes);
}

/* ---- Reading ---- */

DSGD_AAU_API void dsgd_aau_stats(const dsgd_aau *g, dsgd_aau_stats_t *out) {
    uint32_t k;
    if (!g || !out) return;
    *out = g->stats;
    out->merges += g->core.merged;
    out->redundant += g->core.redundant;
    out->epochs += g->core.epochs;
    out->traffic = g->net.traffic;
    out->epoch = g->core.epoch;
    out->views = g->core.views;
    out->lost = g->net.lost;
    out->faults = g->net.faults;
    out->neighbours = out->part = 0;
    if (g->magic != DSGD_AAU_MAGIC) return;
    for (k = 0; k < g->net.count; k++) out->neighbours += g->net.link[k].state == WEFT_LINK_UP;
    for (k = 0; k < g->core.workers; k++) out->part += g->core.part[k] == g->core.part[g->core.me];
}

DSGD_AAU_API void dsgd_aau_effective(const dsgd_aau *g, dsgd_aau_desc *out) {
    if (g && out) *out = g->desc;
}

DSGD_AAU_API const weft_detail *dsgd_aau_detail(const dsgd_aau *g) {
    return g ? &g->detail : NULL;
}

DSGD_AAU_API const weft_detail *dsgd_aau_fault(const dsgd_aau *g) {
    return g ? &g->net.fault : NULL;
}

DSGD_AAU_API uint32_t dsgd_aau_state(const dsgd_aau *g) {
    if (!g || g->magic != DSGD_AAU_MAGIC || g->state >= DSGD_AAU_LEFT) return 0;
    if (g->state != DSGD_AAU_IDLE) return DSGD_AAU_MAY_POLL | DSGD_AAU_MAY_LINK;
    if (g->opened) return DSGD_AAU_MAY_STEP | DSGD_AAU_MAY_START | DSGD_AAU_MAY_LINK;
    return (g->desc.join == DSGD_AAU_FOUND ? DSGD_AAU_MAY_STEP : 0) | DSGD_AAU_MAY_START | DSGD_AAU_MAY_LINK |
           (g->stats.steps ? 0 : DSGD_AAU_MAY_LOAD);
}

DSGD_AAU_API weft_link_state dsgd_aau_link(const dsgd_aau *g, uint32_t rank) {
    uint32_t k;
    if (!g || g->magic != DSGD_AAU_MAGIC) return WEFT_LINK_DOWN;
    k = weft_graph_slot(g->desc.graph, g->core.me, rank);
    return k == WEFT_NO_EDGE ? WEFT_LINK_DOWN : g->net.link[k].state;
}

DSGD_AAU_API uint32_t dsgd_aau_labels(dsgd_aau *g, uint32_t *labels, uint32_t capacity) {
    uint32_t i;
    if (!g || g->magic != DSGD_AAU_MAGIC) return 0;
    for (i = 0; labels && i < g->core.workers && i < capacity; i++) labels[i] = dsgd_aau_label(&g->core, i);
    return g->core.workers;
}

DSGD_AAU_API void dsgd_aau_close(dsgd_aau *g) {
    if (!g || g->magic != DSGD_AAU_MAGIC || g->busy) return;
    weft_links_close(&g->net);
    g->state = DSGD_AAU_CLOSED;
    g->magic = 0;
}
