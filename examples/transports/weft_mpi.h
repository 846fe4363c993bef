/* SPDX-License-Identifier: MIT
 * weft_mpi.h: workers as the ranks of an MPI communicator. MPI-3; Open MPI and MPICH.
 *
 *     MPI_Init(&argc, &argv);
 *     weft_mpi mpi;
 *     weft_transport net;
 *     if (weft_mpi_transport(&mpi, &net, MPI_COMM_WORLD) != WEFT_OK) complain();   // all ranks call it
 *     ...
 *     weft_mpi_close(&mpi);                                                        // likewise
 *     MPI_Finalize();
 *
 * It works on a communicator of its own (MPI_Comm_dup), on the thread that calls the verbs: MPI_Init does. Sends are
 * copied on their way, since a send of MPI's cannot be taken back and X may take its own back; receives are given to
 * MPI when MPI_Iprobe has found their message and its length. A rank that dies takes its job along, as MPI
 * has it: for workers that come and go there is weft_tcp.h.
 *
 * There is an all_reduce (desc.host_collectives = 1) for f32 and f64, by MPI_Iallreduce: the order of the sum, and so
 * its bits, are MPI's. A sum that a rank takes back is WEFT_ERR_TRANSPORT for all others: they vote on each, one
 * int more to be summed, since that rank's numbers may be in it already, and MPI pairs sums by their order alone.
 *
 * Include this file after one of the weft headers; compile with mpicc. */
#ifndef WEFT_MPI_H
#define WEFT_MPI_H

#ifndef WEFT_VERSION
#error "include a weft header (grawa.h, ...) before weft_mpi.h"
#endif

#include <limits.h>
#include <mpi.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

typedef struct weft_mpi_op {
    struct weft_mpi_op *next;
    MPI_Request request; /* MPI_REQUEST_NULL: a receive that is not matched, or over */
    unsigned char *own;  /* the copy of a send; where a message goes that its receive has no room for; a sum */
    void *into;
    size_t own_bytes, room, length;
    uint32_t peer, tag;
    int is_send, matched;
    weft_status failed; /* a receive that could not be matched; else WEFT_OK */
    MPI_Datatype type; /* of a sum; else MPI_DATATYPE_NULL */
    int voting, over, gone, vote; /* of a sum. gone: it was taken back here; vote: 0 if so, anywhere */
} weft_mpi_op;

typedef struct weft_mpi {
    MPI_Comm comm, votes;
    uint32_t rank, size;
    weft_mpi_op *receives, **receives_end; /* not matched, in the order of posting */
    weft_mpi_op *given_up;                 /* sends cancelled, but MPI still holds their buffers */
    weft_mpi_op *sums, **sums_end;         /* not over, in their order */
    weft_mpi_op *free;
} weft_mpi;

WEFT_INLINE void weft_mpi_release(weft_mpi *m, weft_mpi_op *op) {
    op->next = m->free;
    m->free = op;
}

/* Room that stays with the op: messages are much of a size. */
WEFT_INLINE int weft_mpi_own(weft_mpi_op *op, size_t bytes) {
    if (bytes <= op->own_bytes) return 1;
    free(op->own);
    op->own = (unsigned char *)malloc(bytes);
    op->own_bytes = op->own ? bytes : 0;
    return op->own != NULL;
}

WEFT_INLINE weft_mpi_op *weft_mpi_new(weft_mpi *m, size_t own_bytes) {
    weft_mpi_op *op = m->free, was;
    if (op)
        m->free = op->next;
    else if ((op = (weft_mpi_op *)calloc(1, sizeof *op)) == NULL)
        return NULL;
    if (!weft_mpi_own(op, own_bytes)) {
        weft_mpi_release(m, op);
        return NULL;
    }
    was = *op;
    memset(op, 0, sizeof *op);
    op->own = was.own;
    op->own_bytes = was.own_bytes;
    op->request = MPI_REQUEST_NULL;
    op->type = MPI_DATATYPE_NULL;
    return op;
}

/* A sum is over when all have voted on it: in the order of the sums, as MPI wants it. */
WEFT_INLINE void weft_mpi_vote(weft_mpi *m) {
    weft_mpi_op *op;
    while ((op = m->sums) != NULL) {
        int done = 0;
        if (MPI_Test(&op->request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) {
            op->failed = WEFT_ERR_TRANSPORT;
            done = 1;
        }
        if (!done) return;
        if (!op->voting) {
            op->voting = 1;
            op->vote = !op->gone && op->failed == WEFT_OK;
            if (MPI_Iallreduce(MPI_IN_PLACE, &op->vote, 1, MPI_INT, MPI_MIN, m->votes, &op->request) == MPI_SUCCESS)
                continue;
            op->vote = 0;
        }
        if (!op->vote) op->failed = WEFT_ERR_TRANSPORT;
        op->over = 1;
        if ((m->sums = op->next) == NULL) m->sums_end = &m->sums;
        if (op->gone) weft_mpi_release(m, op);
    }
}

/* Sends that were cancelled, once MPI lets them go; and sums. */
WEFT_INLINE void weft_mpi_sweep(weft_mpi *m) {
    weft_mpi_op **at = &m->given_up;
    weft_mpi_vote(m);
    while (*at) {
        weft_mpi_op *op = *at;
        int done = 1;
        if (MPI_Test(&op->request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) done = 1;
        if (done) {
            *at = op->next;
            weft_mpi_release(m, op);
        } else
            at = &op->next;
    }
}

WEFT_INLINE void weft_mpi_forget_receive(weft_mpi *m, weft_mpi_op *op) {
    weft_mpi_op **at = &m->receives;
    while (*at && *at != op) at = &(*at)->next;
    if (!*at) return;
    *at = op->next;
    if (m->receives_end == &op->next) m->receives_end = at;
}

/* Matches what is there with the receives, in the order of posting. What fails is that receive's affair, and a message
 * for which there is no memory stays where it is. */
WEFT_INLINE void weft_mpi_match(weft_mpi *m) {
    weft_mpi_op *op, *next, *before;
    for (op = m->receives; op; op = next) {
        MPI_Status status;
        int there = 0, bytes = 0;
        next = op->next;
        for (before = m->receives; before != op; before = before->next)
            if (before->peer == op->peer && before->tag == op->tag) break;
        if (before != op) continue; /* one that was posted earlier waits for the same */
        if (MPI_Iprobe((int)op->peer, (int)op->tag, m->comm, &there, &status) != MPI_SUCCESS)
            op->failed = WEFT_ERR_TRANSPORT;
        else if (!there)
            continue;
        else {
            MPI_Get_count(&status, MPI_BYTE, &bytes);
            op->length = (size_t)bytes;
            if (op->length > op->room && !weft_mpi_own(op, op->length))
                op->failed = WEFT_ERR_MEMORY;
            else if (MPI_Irecv(op->length > op->room ? op->own : op->into, bytes, MPI_BYTE, (int)op->peer, (int)op->tag,
                               m->comm, &op->request) != MPI_SUCCESS) { /* that message: one thread, and in order */
                op->request = MPI_REQUEST_NULL;
                op->failed = WEFT_ERR_TRANSPORT;
            }
        }
        weft_mpi_forget_receive(m, op);
        op->matched = 1;
    }
}

WEFT_INLINE weft_status weft_mpi_send(void *ctx, uint32_t peer, uint32_t tag, const void *data, size_t bytes,
                                      weft_request *q) {
    weft_mpi *m = (weft_mpi *)ctx;
    weft_mpi_op *op;
    q->word[0] = 0;
    if (peer >= m->size || peer == m->rank || bytes > INT_MAX) return WEFT_ERR_ARGUMENT;
    weft_mpi_sweep(m);
    if ((op = weft_mpi_new(m, bytes)) == NULL) return WEFT_ERR_MEMORY;
    op->is_send = 1;
    op->length = bytes;
    if (bytes) memcpy(op->own, data, bytes);
    if (MPI_Isend(op->own, (int)bytes, MPI_BYTE, (int)peer, (int)tag, m->comm, &op->request) != MPI_SUCCESS) {
        weft_mpi_release(m, op);
        return WEFT_ERR_TRANSPORT;
    }
    q->word[0] = (uintptr_t)op;
    return WEFT_OK;
}

WEFT_INLINE weft_status weft_mpi_recv(void *ctx, uint32_t peer, uint32_t tag, void *data, size_t capacity,
                                      weft_request *q) {
    weft_mpi *m = (weft_mpi *)ctx;
    weft_mpi_op *op;
    q->word[0] = 0;
    if (peer >= m->size || peer == m->rank) return WEFT_ERR_ARGUMENT;
    if ((op = weft_mpi_new(m, 0)) == NULL) return WEFT_ERR_MEMORY;
    op->into = data;
    op->room = capacity;
    op->peer = peer;
    op->tag = tag;
    *m->receives_end = op;
    m->receives_end = &op->next;
    q->word[0] = (uintptr_t)op;
    return WEFT_OK;
}

WEFT_INLINE weft_status weft_mpi_test(void *ctx, weft_request *q) {
    weft_mpi *m = (weft_mpi *)ctx;
    weft_mpi_op *op = (weft_mpi_op *)q->word[0];
    weft_status s;
    int done = 0;
    if (!op) return WEFT_ERR_TRANSPORT;
    weft_mpi_sweep(m);
    weft_mpi_match(m);
    s = op->failed;
    if (!op->is_send && !op->matched && !op->over) return WEFT_AGAIN;
    done = op->over;
    if (s == WEFT_OK && !done && MPI_Test(&op->request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS)
        s = WEFT_ERR_TRANSPORT;
    if (s == WEFT_OK && !done) return WEFT_AGAIN;
    if (op->type == MPI_DATATYPE_NULL)
        q->bytes = op->length;
    else if (s == WEFT_OK)
        memcpy(op->into, op->own, op->length);
    if (s == WEFT_OK && op->matched && op->length > op->room) s = WEFT_ERR_TRUNCATED;
    q->word[0] = 0;
    weft_mpi_release(m, op);
    return s;
}

/* A receive that is matched is a message that is on its way: it is waited for, since its buffer is the caller's. */
WEFT_INLINE void weft_mpi_cancel(void *ctx, weft_request *q) {
    weft_mpi *m = (weft_mpi *)ctx;
    weft_mpi_op *op = (weft_mpi_op *)q->word[0];
    q->word[0] = 0;
    if (!op) return;
    if (op->type != MPI_DATATYPE_NULL) {
        op->gone = 1;
        if (op->over) weft_mpi_release(m, op);
        return;
    }
    if (op->is_send) {
        op->next = m->given_up;
        m->given_up = op;
        return;
    }
    if (op->matched)
        MPI_Wait(&op->request, MPI_STATUS_IGNORE);
    else
        weft_mpi_forget_receive(m, op);
    weft_mpi_release(m, op);
}

/* A look around: MPI has no way to sleep until a message comes. */
WEFT_INLINE void weft_mpi_wait(void *ctx, uint64_t until_ns) {
    (void)until_ns;
    weft_mpi_sweep((weft_mpi *)ctx);
    weft_mpi_match((weft_mpi *)ctx);
    sched_yield();
}

WEFT_INLINE uint64_t weft_mpi_now(void *ctx) {
    (void)ctx;
    return (uint64_t)(MPI_Wtime() * 1e9);
}

/* weight * in, summed up over all ranks. What has no weight is not looked at: it may be NaN. */
WEFT_INLINE weft_status weft_mpi_all_reduce(void *ctx, double weight, const void *in, void *out, size_t count,
                                            weft_dtype dtype, weft_request *q) {
    weft_mpi *m = (weft_mpi *)ctx;
    const size_t each = dtype == WEFT_F64 ? 8 : 4;
    weft_mpi_op *op;
    size_t i;
    q->word[0] = 0;
    if ((dtype != WEFT_F32 && dtype != WEFT_F64) || count > INT_MAX) return WEFT_ERR_UNSUPPORTED;
    if ((op = weft_mpi_new(m, count * each + 1)) == NULL) return WEFT_ERR_MEMORY;
    op->type = dtype == WEFT_F64 ? MPI_DOUBLE : MPI_FLOAT;
    op->into = out;
    op->length = count * each;
    if (dtype == WEFT_F64) {
        double *to = (double *)(void *)op->own;
        for (i = 0; i < count; i++) to[i] = weight == 0 ? 0 : weight * ((const double *)in)[i];
    } else {
        const float w = (float)weight;
        float *to = (float *)(void *)op->own;
        for (i = 0; i < count; i++) to[i] = w == 0 ? 0 : w * ((const float *)in)[i];
    }
    if (MPI_Iallreduce(MPI_IN_PLACE, op->own, (int)count, op->type, MPI_SUM, m->comm, &op->request) != MPI_SUCCESS) {
        weft_mpi_release(m, op);
        return WEFT_ERR_TRANSPORT;
    }
    *m->sums_end = op;
    m->sums_end = &op->next;
    q->word[0] = (uintptr_t)op;
    return WEFT_OK;
}

/* All ranks of the communicator call it. */
WEFT_INLINE weft_status weft_mpi_transport(weft_mpi *m, weft_transport *net, MPI_Comm comm) {
    int rank, size;
    memset(m, 0, sizeof *m);
    m->receives_end = &m->receives;
    m->sums_end = &m->sums;
    if (MPI_Comm_dup(comm, &m->comm) != MPI_SUCCESS) return WEFT_ERR_TRANSPORT;
    MPI_Comm_set_errhandler(m->comm, MPI_ERRORS_RETURN);
    if (MPI_Comm_dup(m->comm, &m->votes) != MPI_SUCCESS) {
        MPI_Comm_free(&m->comm);
        return WEFT_ERR_TRANSPORT;
    }
    MPI_Comm_rank(m->comm, &rank);
    MPI_Comm_size(m->comm, &size);
    m->rank = (uint32_t)rank;
    m->size = (uint32_t)size;
    *net = weft_transport_make(m, m->rank, m->size, weft_mpi_send, weft_mpi_recv, weft_mpi_test, weft_mpi_cancel,
                               weft_mpi_now);
    net->max_message_bytes = INT_MAX;
    net->wait = weft_mpi_wait;
    net->all_reduce = weft_mpi_all_reduce;
    return WEFT_OK;
}

/* All ranks call it, when no object uses the transport any more. Messages that nobody has received are taken off the
 * network first, so that the sends that were cancelled get over. */
WEFT_INLINE void weft_mpi_close(weft_mpi *m) {
    MPI_Request all = MPI_REQUEST_NULL;
    weft_mpi_op *op;
    int done = 0, asked = 0;
    while (!done) {
        MPI_Message message;
        MPI_Status status;
        int there = 0, bytes = 0;
        weft_mpi_sweep(m);
        if (!m->given_up && !m->sums && !asked) {
            if (MPI_Ibarrier(m->comm, &all) != MPI_SUCCESS) break;
            asked = 1;
        }
        if (MPI_Improbe(MPI_ANY_SOURCE, MPI_ANY_TAG, m->comm, &there, &message, &status) == MPI_SUCCESS && there) {
            MPI_Get_count(&status, MPI_BYTE, &bytes);
            if ((op = weft_mpi_new(m, (size_t)bytes)) == NULL) break;
            MPI_Mrecv(op->own, bytes, MPI_BYTE, &message, MPI_STATUS_IGNORE);
            weft_mpi_release(m, op);
        }
        if (asked && MPI_Test(&all, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) break;
    }
    MPI_Comm_free(&m->votes);
    MPI_Comm_free(&m->comm);
    while ((op = m->free) != NULL) {
        m->free = op->next;
        free(op->own);
        free(op);
    }
}

#endif /* WEFT_MPI_H */
