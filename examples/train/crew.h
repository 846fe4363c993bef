/* SPDX-License-Identifier: MIT
 * crew.h: workers that are processes: one of them in this one, the others elsewhere, over TCP or MPI. */
#ifndef TRAIN_CREW_H
#define TRAIN_CREW_H

#include "options.h"

#include "grawa.h"

#include <stddef.h>

typedef struct crew crew;

/* For this process' command line, before anything else is begun: starts the others (--launch), and says who this one is
 * and how many there are (o->rank, o->workers). Ends the program with a line if that cannot be had. */
void crew_begin(options *o, int *argc, char ***argv);

/* The network of one run; NULL: workers are threads. `run` counts from 0, the same in all processes. */
crew *crew_open(const options *o, unsigned run);
const weft_transport *crew_transport(const crew *c);

/* All are here. */
void crew_meet(crew *c);

/* Blocking, in order; what is sent to a rank is received there with the same sizes. */
void crew_send(crew *c, size_t to, const void *data, size_t bytes);
void crew_receive(crew *c, size_t from, void *data, size_t bytes);

/* Waits for what is on its way. */
void crew_close(crew *c);

/* At the end of the program: waits for the processes that this one has started. Returns the program's status. */
int crew_end(const options *o, int status);

#endif
