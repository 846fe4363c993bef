/* SPDX-License-Identifier: MIT
 * peer_mpi.c: MPI_Allreduce in place; or, with an argument, ours over weft_mpi.h. Started by mpirun, commands come to
 * rank 0. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define GRAWA_IMPLEMENTATION
#include "grawa.h"
#include "transports/weft_mpi.h"

#include "object.h"
#include "serve.h"

#include <mpi.h>

static void all_reduce(float *x, size_t count) {
    MPI_Allreduce(MPI_IN_PLACE, x, (int)count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
}

static void barrier(void) { MPI_Barrier(MPI_COMM_WORLD); }

/* MPI waits by looking around without end. While others are measured, these processes must not. */
static void await_command(char *line, int rank) {
    MPI_Request q;
    int done = 0;
    if (rank == 0 && !fgets(line, SERVE_LINE, stdin)) snprintf(line, SERVE_LINE, "quit");
    MPI_Ibcast(line, SERVE_LINE, MPI_CHAR, 0, MPI_COMM_WORLD, &q);
    for (MPI_Test(&q, &done, MPI_STATUS_IGNORE); !done; MPI_Test(&q, &done, MPI_STATUS_IGNORE)) clock_sleep(1e-3);
}

int main(int argc, char **argv) {
    char line[SERVE_LINE] = "", version[MPI_MAX_LIBRARY_VERSION_STRING], hello[SERVE_LINE];
    static weft_mpi mpi;
    serve s;
    int n;
    MPI_Init(&argc, &argv);
    memset(&s, 0, sizeof s);
    MPI_Comm_rank(MPI_COMM_WORLD, &s.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &s.ranks);
    MPI_Get_library_version(version, &n);
    snprintf(hello, sizeof hello, "%.*s", (int)strcspn(version, ",\n"), version); /* "Open MPI v4.1.4" */
    s.hello = hello;
    s.all_reduce = all_reduce;
    s.barrier = barrier;
    if (argc > 1) {
        object_must(weft_mpi_transport(&mpi, &object_net, MPI_COMM_WORLD), "MPI");
        s.all_reduce = object_all_reduce;
        s.barrier = object_barrier;
    }
    do await_command(line, s.rank);
    while (serve_command(&s, line));
    free(s.x);
    if (argc > 1) weft_mpi_close(&mpi);
    MPI_Finalize();
    return 0;
}
