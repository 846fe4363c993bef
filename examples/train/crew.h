/* SPDX-License-Identifier: MIT
 * crew.h: workers that are processes: one of them in this one, the others elsewhere, over TCP or MPI. Over TCP they may
 * be lost, and come again: then the others agree on who is in (weft_members.h). */
#ifndef TRAIN_CREW_H
#define TRAIN_CREW_H

#include "options.h"

#include "grawa.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct crew crew;

/* For this process' command line, before anything else is begun: starts the others (--launch; the process that does so
 * stays behind, see launch.h), and says who this one is and how many there are (o->rank, o->workers). Ends the program
 * with a line if that cannot be had. */
void crew_begin(options *o, int *argc, char ***argv);

/* The network of one run; NULL: workers are threads. `run` counts from 0, the same in all processes. A newcomer is in
 * when this returns; if the others are done already, the program ends with a line, and well. */
crew *crew_open(const options *o, unsigned run);
const weft_transport *crew_transport(const crew *c);

/* All are here. */
void crew_meet(crew *c);

/* Blocking, in order for each topic; what is sent to a rank is received there with the same sizes. false: that worker
 * is lost. */
typedef enum crew_topic { CREW_RESULTS, CREW_STATE } crew_topic;
bool crew_send(crew *c, crew_topic topic, size_t to, const void *data, size_t bytes);
bool crew_receive(crew *c, crew_topic topic, size_t from, void *data, size_t bytes);

/* ---- Who is in; over MPI, where a loss ends the job, all are, always ---- */

bool crew_has_members(const crew *c);

/* Takes in what has happened; each link that is gone, or there again, is told to `listen`. Ends the program with a line
 * if the others have gone on without this worker. */
void crew_look(crew *c);
void crew_listen(crew *c, void (*listen)(void *ctx, uint32_t rank, bool up), void *ctx);
const weft_view *crew_view(const crew *c); /* good until the next look */
void crew_need(crew *c);                   /* nothing goes on without a new view */
void crew_wait(crew *c);                   /* for a moment, or until something comes */
bool crew_may_go(crew *c);                 /* this worker has taken its last step: may it say good-bye? */
bool crew_is_gone(const crew *c);          /* the others do without this worker, which wanted to go */
void crew_done(crew *c);                   /* it has, and from now on its loss troubles nobody */
bool crew_all_done(crew *c);               /* and have all? */

/* A worker that came later asks one that has been here for the state of the training (which is then sent with
 * crew_send). */
bool crew_is_newcomer(const crew *c);
size_t crew_ask(crew *c);    /* whom this one has asked: waits until there is somebody; ends the program as above */
void crew_answered(crew *c); /* and has been answered by */
bool crew_asked(crew *c, size_t *who);
void crew_serve_with(crew *c, void (*serve)(void *ctx), void *ctx); /* also called while this one waits in a transfer */

/* At the end: who reports is the lowest rank that is left. */
size_t crew_reporter(crew *c);
bool crew_hears(const crew *c, size_t rank); /* its link works, whether it is in or has gone */
void crew_speak(const options *o); /* a reporter other than rank 0 may print, too */

typedef struct crew_events {
    uint64_t views, lost, came; /* of workers, as the view tells it */
} crew_events;
crew_events crew_count(const crew *c);

/* ---- What is done to workers to see what happens ---- */

/* This process is killed (SIGKILL) when the rule has sent so many more messages, in the middle of whatever it is doing
 * then. For a worker that has o->kill. */
void crew_doom(uint64_t sends);

/* Waits for what is on its way. */
void crew_close(crew *c);

/* At the end of the program. Returns the program's status. */
int crew_end(const options *o, int status);

#endif
