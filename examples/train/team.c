/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "options.h" /* weft_threads.h has parameters that are called as the type here */

#include "weft_threads.h"
#include "weft_topology.h"

#include "team.h"
#include "util.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Between processes the workers agree on views among themselves (weft_members.h, in crew.c). Between threads a lock
 * does: every death makes a new view, of those who neither died nor left before. */
struct team {
    crew *crew; /* NULL: threads */
    size_t workers;
    weft_graph graph;
    void *graph_memory;
    uint32_t settled[MAX_WORKERS]; /* the last view that this worker has gone through with */

    weft_threads_team threads;
    pthread_mutex_t lock;
    bool dead[MAX_WORKERS];
    bool left[MAX_WORKERS]; /* needs nobody any more, and nobody needs it */
    bool done[MAX_WORKERS]; /* has taken its last step */
    uint32_t epoch;         /* of the last view: as many as died */
    uint32_t member[MAX_WORKERS];
    uint32_t members;
};

/* With the lock held. */
static void team_new_view(team *t) {
    t->members = 0;
    for (uint32_t i = 0; i < t->workers; i++)
        if (!t->dead[i] && !t->left[i]) t->member[t->members++] = i;
}

team *team_new(size_t workers, const options *o, crew *c) {
    team *t = new_array(1, sizeof *t);
    char why[240];
    t->workers = workers;
    t->crew = c;
    t->graph_memory =
        weft_topology_make(workers > 1 ? o->topology : "ring", (uint32_t)workers, o->seed, &t->graph, why, sizeof why);
    if (!t->graph_memory) broken("--topology: %s", why);
    team_new_view(t);
    if (weft_threads_init(&t->threads, (uint32_t)workers) != WEFT_OK || pthread_mutex_init(&t->lock, NULL))
        broken("cannot set up %zu workers", workers);
    return t;
}

void team_free(team *t) {
    weft_threads_free(&t->threads);
    pthread_mutex_destroy(&t->lock);
    free(t->graph_memory);
    free(t);
}

size_t team_size(const team *t) {
    return t->workers;
}

const weft_graph *team_graph(const team *t) {
    return &t->graph;
}

void team_transport(team *t, size_t rank, weft_transport *net) {
    if (t->crew)
        *net = *crew_transport(t->crew);
    else
        weft_threads_transport(&t->threads, (uint32_t)rank, net);
}

void team_die(team *t, size_t rank) {
    pthread_mutex_lock(&t->lock);
    t->dead[rank] = true;
    t->epoch++;
    team_new_view(t);
    pthread_mutex_unlock(&t->lock);
    weft_threads_lose(&t->threads, (uint32_t)rank);
}

weft_view team_view(team *t, uint32_t member[MAX_WORKERS]) {
    weft_view v = {sizeof v, 0, 0, member};
    if (t->crew) {
        const weft_view *now = crew_view(t->crew);
        memcpy(member, now->members, now->count * sizeof *member);
        v.count = now->count;
        v.epoch = now->epoch;
        return v;
    }
    pthread_mutex_lock(&t->lock);
    memcpy(member, t->member, sizeof t->member);
    v.count = t->members;
    v.epoch = t->epoch;
    pthread_mutex_unlock(&t->lock);
    return v;
}

bool team_looks(const team *t) {
    return t->crew && crew_has_members(t->crew);
}

bool team_look(team *t, uint32_t epoch) {
    if (!team_looks(t)) return false;
    crew_look(t->crew);
    return crew_view(t->crew)->epoch != epoch;
}

weft_view team_next_view(team *t, uint32_t epoch, uint32_t member[MAX_WORKERS]) {
    if (t->crew && !team_looks(t)) broken("a process is gone");
    if (team_looks(t) && !team_look(t, epoch)) {
        crew_need(t->crew);
        while (!team_look(t, epoch)) crew_wait(t->crew);
    }
    return team_view(t, member);
}

void team_settle(team *t, size_t rank, uint32_t epoch) {
    pthread_mutex_lock(&t->lock);
    t->settled[rank] = epoch;
    pthread_mutex_unlock(&t->lock);
}

bool team_is_settled(team *t, size_t rank) {
    if (t->crew) return !team_look(t, t->settled[rank]);
    pthread_mutex_lock(&t->lock);
    bool yes = t->settled[rank] == t->epoch;
    pthread_mutex_unlock(&t->lock);
    return yes;
}

bool team_may_leave(team *t, size_t rank) {
    if (t->crew) {
        return !team_looks(t) || crew_is_gone(t->crew) || (team_is_settled(t, rank) && crew_may_go(t->crew));
    }
    pthread_mutex_lock(&t->lock);
    if (t->settled[rank] == t->epoch) t->left[rank] = true;
    bool yes = t->left[rank];
    pthread_mutex_unlock(&t->lock);
    return yes;
}

bool team_is_done(team *t, size_t rank) {
    bool all = true;
    if (t->crew) return !team_looks(t) || crew_all_done(t->crew);
    pthread_mutex_lock(&t->lock);
    t->done[rank] = true;
    for (size_t i = 0; i < t->workers; i++)
        if (!t->dead[i] && (!t->done[i] || t->settled[i] != t->epoch)) all = false;
    pthread_mutex_unlock(&t->lock);
    return all;
}

bool team_is_gone(team *t) {
    return team_looks(t) && crew_is_gone(t->crew);
}
