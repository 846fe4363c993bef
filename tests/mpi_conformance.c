/* SPDX-License-Identifier: MIT
 * weft_mpi.h keeps the contract of transport.h over whatever MPI this is compiled with. Started by mpirun with 2 to 4
 * ranks; `tests/run mpi` does so with Open MPI and MPICH. Rank 0 prints a line; a check that fails ends all of them.
 *
 * Messages of all lengths around the limits from which an MPI lets a send wait for its receive, receives that are first
 * or late, many tags, cancels of either side; sums by MPI; and sums of the library, which must have the bits that they
 * have between threads: each rank runs a team of threads of its own to know. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"

#include <mpi.h>
#include <sched.h>
#include <stdlib.h>
static size_t scarce; /* nothing longer can be had; 0: all can */
static void *scarce_malloc(size_t bytes) {
    return scarce && bytes > scarce ? NULL : malloc(bytes);
}
#define malloc scarce_malloc
#include "transports/weft_mpi.h"
#undef malloc
#include "transports/weft_threads.h"

#include <math.h>
#include <stdio.h>

enum { MOST = 4, LONGEST = (4 << 20) + 1, TAGS = 1000, CANCELS = 200, MARK = 7 };

static weft_mpi mpi;
static weft_transport net;
static unsigned long long checks;

static void need(int right, const char *what, int line) {
    __atomic_fetch_add(&checks, 1, __ATOMIC_RELAXED);
    if (right) return;
    fprintf(stderr, "mpi_conformance, line %d, rank %u of %u: %s\n", line, net.rank, net.size, what);
    MPI_Abort(MPI_COMM_WORLD, 1);
}
#define NEED(condition) need((condition) != 0, #condition, __LINE__)

static void *memory(size_t bytes) {
    void *p = malloc(bytes ? bytes : 1);
    NEED(p);
    return p;
}

/* ---- messages ---- */

static weft_status post(int sends, uint32_t peer, uint32_t tag, void *p, size_t n, weft_request *q) {
    memset(q, 0, sizeof *q);
    return sends ? net.send(net.ctx, peer, tag, p, n, q) : net.recv(net.ctx, peer, tag, p, n, q);
}

static weft_status finish(weft_request *q) {
    weft_status s;
    while ((s = net.test(net.ctx, q)) == WEFT_AGAIN) net.wait(net.ctx, UINT64_MAX);
    return s;
}

static void fill(unsigned char *p, size_t n, uint64_t key) {
    size_t i;
    for (i = 0; i < n; i++) p[i] = (unsigned char)(((uint64_t)i + key) * UINT64_C(0x9E3779B97F4A7C15) >> 56);
}

static int is_filled(const unsigned char *p, size_t n, uint64_t key) {
    size_t i;
    for (i = 0; i < n; i++)
        if (p[i] != (unsigned char)(((uint64_t)i + key) * UINT64_C(0x9E3779B97F4A7C15) >> 56)) return 0;
    return 1;
}

static uint64_t key_of(uint32_t from, uint32_t to, uint32_t n) {
    return ((uint64_t)from << 40) + ((uint64_t)to << 32) + (uint64_t)n * 7919;
}

/* Over the transport itself; all ranks leave it after all have come. */
static void barrier(void) {
    weft_request q[2 * MOST];
    uint32_t i;
    for (i = 0; i < net.size; i++) {
        if (i == net.rank) continue;
        NEED(post(0, i, 32767, NULL, 0, &q[2 * i]) == WEFT_OK);
        NEED(post(1, i, 32767, NULL, 0, &q[2 * i + 1]) == WEFT_OK);
    }
    for (i = 0; i < net.size; i++) {
        if (i == net.rank) continue;
        NEED(finish(&q[2 * i]) == WEFT_OK && q[2 * i].bytes == 0);
        NEED(finish(&q[2 * i + 1]) == WEFT_OK);
    }
}

/* One length to and from everybody. late: receives are posted after the sends of all have begun. */
static void exchange(size_t n, size_t room, int late) {
    unsigned char *out = (unsigned char *)memory(n), *in[MOST];
    weft_request send[MOST], recv[MOST];
    uint32_t i, turn;
    for (i = 0; i < net.size; i++) in[i] = (unsigned char *)memory(room + 1);
    fill(out, n, key_of(net.rank, 9, (uint32_t)n)); /* one buffer for all */
    for (turn = 0; turn < 2; turn++) {
        if (late && turn) barrier();
        for (i = 0; i < net.size; i++) {
            if (i == net.rank) continue;
            if (turn != (uint32_t)late) {
                NEED(post(1, i, 5, out, n, &send[i]) == WEFT_OK);
                continue;
            }
            in[i][room] = 0x5A;
            NEED(post(0, i, 5, in[i], room, &recv[i]) == WEFT_OK);
        }
    }
    for (i = 0; i < net.size; i++) {
        if (i == net.rank) continue;
        NEED(finish(&recv[i]) == (n > room ? WEFT_ERR_TRUNCATED : WEFT_OK));
        NEED(recv[i].bytes == n);
        NEED(in[i][room] == 0x5A);
        if (n <= room) NEED(is_filled(in[i], n, key_of(i, 9, (uint32_t)n)));
    }
    for (i = 0; i < net.size; i++)
        if (i != net.rank) NEED(finish(&send[i]) == WEFT_OK);
    NEED(is_filled(out, n, key_of(net.rank, 9, (uint32_t)n)));
    for (i = 0; i < net.size; i++) free(in[i]);
    free(out);
}

/* Every power of two up to 4 MiB and its neighbours: all limits of either MPI are among them, less or more their own
 * heads. */
static void lengths(void) {
    static const size_t heads[] = {0, 1, 16, 32, 48, 56, 64, 80, 96, 128};
    size_t n, k;
    int late;
    for (late = 0; late < 2; late++) {
        exchange(0, 0, late);
        exchange(0, 9, late);
        for (n = 1; n < LONGEST; n *= 2) {
            exchange(n, n, late);
            exchange(n + 1, n + 100, late);
            if (n > 1) exchange(n - 1, n, late);
            exchange(n, n / 2, late);
        }
        for (n = 1024; n <= 262144; n *= 4) /* limits are 4 KiB, 16 KiB, 64 KiB, 256 KiB */
            for (k = 0; k < sizeof heads / sizeof heads[0]; k++) exchange(n - heads[k], n, late);
    }
}

/* Many at a time on tags of their own, asked for backwards; and in order on one tag. */
static void tags(void) {
    const uint32_t next = (net.rank + 1) % net.size, before = (net.rank + net.size - 1) % net.size;
    weft_request *send = (weft_request *)memory(TAGS * sizeof *send);
    weft_request *recv = (weft_request *)memory(TAGS * sizeof *recv);
    unsigned char *out = (unsigned char *)memory(TAGS * 64), *in = (unsigned char *)memory(TAGS * 64);
    uint32_t i, same;
    for (same = 0; same < 2; same++) {
        fill(out, TAGS * 64, key_of(net.rank, next, 1));
        memset(in, 0, TAGS * 64);
        for (i = 0; i < TAGS; i++)
            NEED(post(1, next, same ? 7 : i * 32 + 31, out + 64 * i, i % 65, &send[i]) == WEFT_OK);
        for (i = TAGS; i--;)
            NEED(post(0, before, same ? 7 : i * 32 + 31, in + 64 * (same ? TAGS - 1 - i : i), 64, &recv[i]) == WEFT_OK);
        for (i = 0; i < TAGS; i++) {
            const uint32_t which = same ? TAGS - 1 - i : i; /* posted as the which-th on the tag */
            NEED(finish(&recv[i]) == WEFT_OK);
            NEED(recv[i].bytes == which % 65);
            NEED(is_filled(in + 64 * which, which % 65, key_of(before, net.rank, 1) + 64 * which));
        }
        for (i = 0; i < TAGS; i++) NEED(finish(&send[i]) == WEFT_OK);
        barrier();
    }
    free(send);
    free(recv);
    free(out);
    free(in);
}

/* Receives that are taken back take nothing with them; sends that are taken back come wholly or not at all, and their
 * buffers are free at once. Short and long ones. */
static void cancels(void) {
    static const size_t size[] = {0, 1, 100, 5000, 70000, 300000};
    const uint32_t next = (net.rank + 1) % net.size, before = (net.rank + net.size - 1) % net.size;
    unsigned char *out = (unsigned char *)memory(300000), *in = (unsigned char *)memory(300000);
    unsigned char *last = (unsigned char *)memory(300000);
    uint32_t i, seen, delivered = 0;
    int over, came;
    weft_request a, b, c;
    for (i = 0; i < CANCELS; i++) {
        const size_t n = size[i % 6];
        /* a receive */
        memset(in, 0x5A, n);
        NEED(post(0, before, 9, in, n, &a) == WEFT_OK);
        if (i % 3) NEED(net.test(net.ctx, &a) == WEFT_AGAIN); /* nothing has been sent on that tag */
        net.cancel(net.ctx, &a);
        barrier();
        fill(out, n, key_of(net.rank, next, i));
        NEED(post(1, next, 9, out, n, &b) == WEFT_OK);
        NEED(post(0, before, 9, last, n, &a) == WEFT_OK);
        NEED(finish(&a) == WEFT_OK && a.bytes == n && is_filled(last, n, key_of(before, net.rank, i)));
        NEED(finish(&b) == WEFT_OK);
        for (seen = 0; seen < n && in[seen] == 0x5A; seen++) continue;
        NEED(seen == n);
        /* a send: what follows it, of another length, is there in any case */
        NEED(post(1, next, 10, out, n, &c) == WEFT_OK);
        over = i % 2 ? net.test(net.ctx, &c) == WEFT_OK : 0;
        if (!over) net.cancel(net.ctx, &c);
        memset(out, 0xEE, n); /* the caller's again */
        memset(last, over, MARK);
        NEED(post(1, next, 10, last, MARK, &b) == WEFT_OK);
        NEED(post(0, before, 10, in, 300000, &a) == WEFT_OK);
        NEED(finish(&a) == WEFT_OK);
        came = a.bytes != MARK;
        if (came) {
            NEED(a.bytes == n && is_filled(in, n, key_of(before, net.rank, i)));
            NEED(post(0, before, 10, in, 300000, &a) == WEFT_OK);
            NEED(finish(&a) == WEFT_OK && a.bytes == MARK);
        }
        NEED(in[0] == 0 || came); /* one that was over is delivered */
        NEED(finish(&b) == WEFT_OK);
        delivered += came;
        barrier();
    }
    NEED(delivered > 0); /* they do meet */
    free(out);
    free(in);
    free(last);
}

/* A receive for whose message there is no memory fails, and no other; the message is still there. */
static void no_memory(void) {
    enum { LONG = 2 * LONGEST }; /* more than any buffer that is kept */
    const uint32_t next = (net.rank + 1) % net.size, before = (net.rank + net.size - 1) % net.size;
    unsigned char *out = (unsigned char *)memory(LONG), *in = (unsigned char *)memory(LONG), small[8], one = 1, got = 0;
    weft_request a, b, c, d;
    fill(out, LONG, key_of(net.rank, next, 3));
    NEED(post(1, next, 20, out, LONG, &a) == WEFT_OK);
    NEED(post(1, next, 21, &one, 1, &b) == WEFT_OK);
    scarce = LONG - 1;
    NEED(post(0, before, 20, small, sizeof small, &c) == WEFT_OK); /* the rest would need room of its own */
    NEED(post(0, before, 21, &got, 1, &d) == WEFT_OK);
    NEED(finish(&d) == WEFT_OK && got == 1);
    NEED(finish(&c) == WEFT_ERR_MEMORY);
    scarce = 0;
    NEED(post(0, before, 20, in, LONG, &c) == WEFT_OK);
    NEED(finish(&c) == WEFT_OK && c.bytes == LONG && is_filled(in, LONG, key_of(before, net.rank, 3)));
    NEED(finish(&a) == WEFT_OK && finish(&b) == WEFT_OK);
    barrier();
    free(out);
    free(in);
}

static void refusals(void) {
    weft_request q;
    unsigned char byte = 0;
    NEED(post(1, net.rank, 0, &byte, 1, &q) == WEFT_ERR_ARGUMENT);
    NEED(post(1, net.size, 0, &byte, 1, &q) == WEFT_ERR_ARGUMENT);
    NEED(post(0, net.rank, 0, &byte, 1, &q) == WEFT_ERR_ARGUMENT);
    NEED(post(0, net.size, 0, &byte, 1, &q) == WEFT_ERR_ARGUMENT);
    NEED(net.all_reduce(net.ctx, 1, &byte, &byte, 1, WEFT_BF16, &q) == WEFT_ERR_UNSUPPORTED);
}

/* ---- the selftest ---- */

static void selftest(uint32_t channel, size_t bytes) {
    static weft_selftest st;
    weft_selftest_report r;
    weft_status s;
    memset(&st, 0, sizeof st);
    st.memory_bytes = bytes;
    st.memory = bytes ? memory(bytes) : NULL;
    while ((s = weft_transport_selftest(&net, &st, channel, &r)) == WEFT_AGAIN) net.wait(net.ctx, 0);
    if (s != WEFT_OK) fprintf(stderr, "selftest: %s (peer %u, tag %u)\n", r.text, r.peer, r.tag);
    NEED(s == WEFT_OK);
    checks += r.checks;
    free(st.memory);
    barrier();
}

/* ---- sums ---- */

static uint64_t draw(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* Numbers whose sum depends on its order; or small whole ones, whose sum does not. */
static double number_of(uint32_t rank, size_t i, int whole) {
    uint64_t state = ((uint64_t)rank << 40) + i;
    const uint64_t z = draw(&state);
    if (whole) return (double)(int)(z % 201) - 100;
    return ldexp((double)(int64_t)(z >> 11) / 9007199254740992.0 - 0.5, (int)(z & 15) - 8);
}

static void numbers(void *x, size_t count, weft_dtype t, uint32_t rank, int whole) {
    size_t i;
    for (i = 0; i < count; i++) {
        if (t == WEFT_F64) ((double *)x)[i] = number_of(rank, i, whole);
        else ((float *)x)[i] = (float)number_of(rank, i, whole);
    }
}

static double value(const void *x, size_t i, weft_dtype t) {
    return t == WEFT_F64 ? ((const double *)x)[i] : (double)((const float *)x)[i];
}

/* What all ranks have is the same. */
static void same_everywhere(const void *x, size_t bytes) {
    uint64_t mine = UINT64_C(0xCBF29CE484222325), theirs;
    const unsigned char *p = (const unsigned char *)x;
    weft_request q[2];
    size_t i;
    for (i = 0; i < bytes; i++) mine = (mine ^ p[i]) * UINT64_C(0x100000001B3);
    NEED(post(1, (net.rank + 1) % net.size, 11, &mine, 8, &q[0]) == WEFT_OK);
    NEED(post(0, (net.rank + net.size - 1) % net.size, 11, &theirs, 8, &q[1]) == WEFT_OK);
    NEED(finish(&q[0]) == WEFT_OK && finish(&q[1]) == WEFT_OK);
    NEED(mine == theirs);
}

static const size_t counts[] = {0, 1, 3, 1000, 4096, 20001, 300007};
enum { COUNTS = (int)(sizeof counts / sizeof counts[0]) };

/* MPI's: exact where no order matters, close where it does, from one buffer to another and in place, under weights. */
static void native_sums(weft_dtype t) {
    const size_t each = t == WEFT_F64 ? 8 : 4;
    uint32_t r;
    int k, way;
    size_t i;
    for (k = 0; k < COUNTS; k++)
        for (way = 0; way < 8; way++) { /* bits: whole numbers, in place, weights with one 0 */
            const size_t n = counts[k];
            const int whole = way & 1, in_place = way & 2, last = way & 4 && net.rank == net.size - 1;
            const double weight = last ? 0 : way & 4 ? 1.0 + net.rank : 1.0;
            void *in = memory(n * each), *out = in_place ? in : memory(n * each);
            weft_request q;
            numbers(in, n, t, net.rank, whole);
            for (i = 0; last && i < n * each; i++) ((unsigned char *)in)[i] = 0xFF; /* NaN */
            memset(&q, 0, sizeof q);
            q.bytes = UINT64_MAX;
            NEED(net.all_reduce(net.ctx, weight, in, out, n, t, &q) == WEFT_OK);
            NEED(finish(&q) == WEFT_OK);
            NEED(q.bytes == UINT64_MAX || q.bytes == 0);
            for (i = 0; i < n; i++) {
                double sum = 0, size = 0;
                for (r = 0; r < net.size; r++) {
                    const double w = way & 4 ? r == net.size - 1 ? 0 : 1.0 + r : 1.0;
                    const double x = number_of(r, i, whole), term = w * (t == WEFT_F64 ? x : (double)(float)x);
                    sum += term;
                    size += fabs(term);
                }
                size *= whole ? 0 : t == WEFT_F64 ? 1e-15 : 5e-7;
                if (!(fabs(value(out, i, t) - sum) <= size)) /* also NaN */
                    NEED(!"the sum is right");
            }
            checks++;
            same_everywhere(out, n * each);
            if (!in_place) {
                void *again = memory(n * each);
                numbers(again, n, t, net.rank, whole);
                if (!last) NEED(memcmp(again, in, n * each) == 0);
                free(again);
                free(out);
            }
            free(in);
        }
}

/* Sums that are taken back, by all, and the next one is right. */
static void cancelled_sums(void) {
    float x[1000], y[1000];
    weft_request q;
    int i;
    for (i = 0; i < 20; i++) {
        numbers(x, 1000, WEFT_F32, net.rank, 1);
        memset(&q, 0, sizeof q);
        q.bytes = UINT64_MAX;
        NEED(net.all_reduce(net.ctx, 1, x, y, 1000, WEFT_F32, &q) == WEFT_OK);
        net.cancel(net.ctx, &q);
        memset(x, 0xFF, sizeof x);
        memset(y, 0x5A, sizeof y);
        barrier();
    }
    for (i = 0; i < 4000; i++) NEED(((unsigned char *)y)[i] == 0x5A);
    native_sums(WEFT_F32);
}

/* One rank takes its sum back, when others have not begun theirs, or have: nobody takes what that rank gave for a part
 * of a sum; and the next one is right. */
static void sums_taken_back_by_one(void) {
    float x[100], y[100];
    weft_request q, later;
    uint32_t who, i;
    int late;
    for (who = 0; who < net.size; who++)
        for (late = 0; late < 2; late++) {
            for (i = 0; i < 100; i++) x[i] = 7;
            memset(&q, 0, sizeof q);
            if (net.rank == who || !late) NEED(net.all_reduce(net.ctx, 1, x, y, 100, WEFT_F32, &q) == WEFT_OK);
            if (net.rank == who) net.cancel(net.ctx, &q);
            barrier();
            if (net.rank != who && late) NEED(net.all_reduce(net.ctx, 1, x, y, 100, WEFT_F32, &q) == WEFT_OK);
            for (i = 0; i < 100; i++) x[i] = 100 + (float)net.rank;
            memset(&later, 0, sizeof later);
            NEED(net.all_reduce(net.ctx, 1, x, x, 100, WEFT_F32, &later) == WEFT_OK);
            if (net.rank != who) NEED(finish(&q) == WEFT_ERR_TRANSPORT);
            NEED(finish(&later) == WEFT_OK);
            for (i = 0; i < 100; i++) NEED(x[i] == (float)(100 * net.size + net.size * (net.size - 1) / 2));
        }
}

/* One sum of a collective object, in place. Others may still be awaiting what this one has sent last, and may send for
 * the next object already: it is closed when all have done (together: of threads), and the next one has another
 * channel. */
static void object_sum(const weft_transport *over, weft_algorithm a, int host, weft_tensors x, const double *weight,
                       pthread_barrier_t *together) {
    static uint32_t channel;
    weft_collective_desc d;
    weft_collective *c;
    weft_status s;
    size_t bytes;
    void *p;
    memset(&d, 0, sizeof d);
    d.struct_size = sizeof d;
    d.tensors = x;
    d.transport = over;
    d.algorithm = a;
    d.host_collectives = host;
    d.channel = together ? 0 : ++channel % WEFT_CHANNELS;
    bytes = weft_collective_memory(&d, NULL);
    NEED(bytes);
    p = memory(bytes);
    NEED(weft_collective_init(&c, &d, p, bytes, NULL) == WEFT_OK);
    s = weft_collective_begin(c, WEFT_OP_ALL_REDUCE, weight, 0);
    while (s == WEFT_AGAIN) {
        over->wait(over->ctx, UINT64_MAX);
        s = weft_collective_poll(c);
    }
    NEED(s == WEFT_OK);
    if (together) pthread_barrier_wait(together);
    else barrier();
    weft_collective_close(c);
    free(p);
}

typedef struct thread {
    weft_transport net;
    weft_algorithm algorithm;
    weft_tensor x[2];
    const double *weight;
    pthread_barrier_t *together;
} thread;

static void *thread_body(void *arg) {
    thread *t = (thread *)arg;
    weft_tensors x;
    x.tensor = t->x;
    x.count = 2;
    object_sum(&t->net, t->algorithm, 0, x, t->weight, t->together);
    return NULL;
}

static void tensors_of(weft_tensor *x, size_t n, uint32_t rank, int whole) {
    x[0].data = memory(n * sizeof(float));
    x[0].count = n;
    x[0].dtype = WEFT_F32;
    x[1].data = memory((n / 3 + 1) * sizeof(double));
    x[1].count = n / 3 + 1;
    x[1].dtype = WEFT_F64;
    numbers(x[0].data, x[0].count, WEFT_F32, rank, whole);
    numbers(x[1].data, x[1].count, WEFT_F64, rank, whole);
}

static void library_sums(void) {
    static const double weights[MOST] = {0.5, 2, 1, 0.25};
    weft_threads_team team;
    thread all[MOST];
    pthread_t id[MOST];
    pthread_barrier_t together;
    int k, a, weighted;
    uint32_t r;
    NEED(pthread_barrier_init(&together, NULL, net.size) == 0);
    for (k = 0; k < COUNTS; k++)
        for (a = WEFT_ALGORITHM_AUTO; a <= WEFT_ALGORITHM_DOUBLING; a++)
            for (weighted = 0; weighted < 2; weighted++) {
                const double *w = weighted ? weights : NULL;
                weft_tensor x[2];
                weft_tensors both;
                both.tensor = x;
                both.count = 2;
                tensors_of(x, counts[k], net.rank, 0);
                object_sum(&net, (weft_algorithm)a, 0, both, w, NULL);
                NEED(weft_threads_init(&team, net.size) == WEFT_OK);
                for (r = 0; r < net.size; r++) {
                    weft_threads_transport(&team, r, &all[r].net);
                    all[r].algorithm = (weft_algorithm)a;
                    all[r].weight = w;
                    all[r].together = &together;
                    tensors_of(all[r].x, counts[k], r, 0);
                    NEED(pthread_create(&id[r], NULL, thread_body, &all[r]) == 0);
                }
                for (r = 0; r < net.size; r++) NEED(pthread_join(id[r], NULL) == 0);
                weft_threads_free(&team);
                NEED(memcmp(x[0].data, all[net.rank].x[0].data, x[0].count * sizeof(float)) == 0);
                NEED(memcmp(x[1].data, all[net.rank].x[1].data, x[1].count * sizeof(double)) == 0);
                free(x[0].data);
                free(x[1].data);
                for (r = 0; r < net.size; r++) {
                    free(all[r].x[0].data);
                    free(all[r].x[1].data);
                }
                /* by MPI: whole numbers, which have the same sum in any order */
                tensors_of(x, counts[k], net.rank, 1);
                object_sum(&net, (weft_algorithm)a, 1, both, NULL, NULL);
                for (r = 0; r < 2; r++) {
                    size_t i;
                    for (i = 0; i < x[r].count; i++) {
                        double sum = 0;
                        uint32_t m;
                        for (m = 0; m < net.size; m++) sum += number_of(m, i, 1);
                        if (value(x[r].data, i, x[r].dtype) != sum) NEED(!"the sum by MPI is right");
                    }
                    free(x[r].data);
                }
            }
    pthread_barrier_destroy(&together);
}

int main(int argc, char **argv) {
    char version[MPI_MAX_LIBRARY_VERSION_STRING];
    int level, n, round;
    /* the threads to compare with never call MPI */
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
    MPI_Get_library_version(version, &n);
    for (round = 0; round < 2; round++) { /* opened and closed, twice */
        NEED(weft_mpi_transport(&mpi, &net, MPI_COMM_WORLD) == WEFT_OK);
        NEED(net.size >= 2 && net.size <= MOST);
        refusals();
        selftest(3, 0);
        if (round) break;
        selftest(0, 1u << 16);
        selftest(14, 8u << 20); /* not 15, whose last tag is that of barrier */
        lengths();
        tags();
        cancels();
        no_memory();
        native_sums(WEFT_F32);
        native_sums(WEFT_F64);
        cancelled_sums();
        sums_taken_back_by_one();
        library_sums();
        weft_mpi_close(&mpi);
    }
    n = (int)net.rank;
    weft_mpi_close(&mpi);
    if (n == 0) printf("%.*s, %u ranks: %llu checks\n", (int)strcspn(version, ",\n"), version, net.size, checks);
    MPI_Finalize();
    return 0;
}
