/* SPDX-License-Identifier: MIT
 * team.h: who is in: views of those who are left, for threads of this program and for processes alike. */
#ifndef TRAIN_TEAM_H
#define TRAIN_TEAM_H

#include "crew.h"
#include "options.h"

#include <stdbool.h>

/* The network between the workers of one run, and who is in it. */
typedef struct team team;

/* c: between processes, each of which has one worker and a team of its own; NULL: workers are threads. */
team *team_new(size_t workers, const options *o, crew *c);
void team_free(team *t);

size_t team_size(const team *t);
const weft_graph *team_graph(const team *t);
void team_transport(team *t, size_t rank, weft_transport *net);

/* What a worker that is a thread does last when it dies: nothing that is said to it is answered any more, and the
 * others come to know. (A process is killed.) */
void team_die(team *t, size_t rank);

/* The view that is in force, into room for its members. */
weft_view team_view(team *t, uint32_t member[MAX_WORKERS]);

/* A verb has said that somebody is lost: the view after that of `epoch`. Waits for it. */
weft_view team_next_view(team *t, uint32_t epoch, uint32_t member[MAX_WORKERS]);

/* Looks at the network. Is there a view after that of `epoch`? (Threads hear of losses from the verbs.) */
bool team_look(team *t, uint32_t epoch);

/* Must loops look while they wait? */
bool team_looks(const team *t);

/* This worker has gone through with the view of that epoch; and: is that the last one? */
void team_settle(team *t, size_t rank, uint32_t epoch);
bool team_is_settled(team *t, size_t rank);

/* A worker may go if it has been through every view that counts on it; later ones will not. */
bool team_may_leave(team *t, size_t rank);

/* Has everybody alive taken the last step, and been through the last view? (Processes: or needs no view any more.) */
bool team_is_done(team *t, size_t rank);

/* Have the others gone on without this worker, which has taken its last step? Or has everybody? Then nobody will answer
 * a verb any more. */
bool team_is_gone(team *t);

#endif
