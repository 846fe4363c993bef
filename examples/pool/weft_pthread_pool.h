/* SPDX-License-Identifier: MIT
 * weft_pthread_pool.h: a small thread pool on POSIX threads, as the weft_pool of any weft header.
 *
 *   #include "grawa.h"                 // or any other of the five headers, first
 *   #include "weft_pthread_pool.h"
 *
 *   weft_pthread_pool threads;
 *   if (weft_pthread_pool_create(&threads, 4) != WEFT_OK) ...   // the calling thread and three more
 *   desc.pool = &threads.pool;
 *   ...
 *   weft_pthread_pool_destroy(&threads);                        // after the objects that use it
 *
 * parallel_for: the caller works too, so it also makes progress when all other threads are busy, may be called from
 *   several threads at a time, and from a submitted task. A thread that has nothing to do offers its processor to
 *   others WEFT_PTHREAD_POOL_YIELDS times (some ten microseconds: kernels often come one behind the other), then
 *   sleeps.
 * submit: tasks start in the order of submission, as threads become free; WEFT_ERR_CAPACITY if WEFT_PTHREAD_POOL_TASKS
 *   are waiting already, WEFT_ERR_UNSUPPORTED in a pool of one thread.
 * destroy: what was submitted is finished first, then all threads are joined. */
#ifndef WEFT_PTHREAD_POOL_H
#define WEFT_PTHREAD_POOL_H

#ifndef WEFT_POOL_API
#error "include one of the weft headers before weft_pthread_pool.h"
#endif

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#define WEFT_PTHREAD_POOL_TASKS 64

#ifndef WEFT_PTHREAD_POOL_YIELDS
#define WEFT_PTHREAD_POOL_YIELDS 100
#endif

/* One parallel_for under way; it lives on its caller's stack. */
typedef struct weft_pthread_loop {
    weft_pool_body body;
    void *arg;
    size_t n, next, running; /* indices: all, handed out, being worked on */
    pthread_cond_t done;
    struct weft_pthread_loop *older;
} weft_pthread_loop;

typedef struct weft_pthread_pool {
    weft_pool pool; /* what a descriptor wants */
    pthread_mutex_t lock;
    pthread_cond_t work; /* there is something to do, or to end */
    pthread_t *thread;
    size_t threads;           /* beside the callers */
    weft_pthread_loop *loops; /* that have indices left, newest first */
    struct {
        weft_pool_task run;
        void *arg;
    } task[WEFT_PTHREAD_POOL_TASKS]; /* a ring */
    size_t first_task, tasks;
    size_t sleeping;   /* threads that wait for `work` */
    unsigned happened; /* changes with everything that a waiting thread waits for; read without the lock */
    int ending;
} weft_pthread_pool;

/* Lock held. What is waited for without it is told by a counter, an atomic where the compiler has them. */
WEFT_FN void weft_pthread_pool_tell(weft_pthread_pool *p) {
#ifdef __GNUC__
    __atomic_store_n(&p->happened, p->happened + 1, __ATOMIC_RELEASE);
#else
    (void)p;
#endif
}

/* Gives the lock back for a while, until something has happened, or the patience for it is over: then 0. */
WEFT_FN int weft_pthread_pool_linger(weft_pthread_pool *p) {
#ifdef __GNUC__
    const unsigned seen = p->happened;
    int i, news = 0;
    pthread_mutex_unlock(&p->lock);
    for (i = 0; i < WEFT_PTHREAD_POOL_YIELDS && !news; i++) {
        sched_yield();
        news = __atomic_load_n(&p->happened, __ATOMIC_ACQUIRE) != seen;
    }
    pthread_mutex_lock(&p->lock);
    return news;
#else
    (void)p;
    return 0;
#endif
}

/* Takes the loop's next index and works on it. Called, and returns, with the lock held; the loop has an index left. */
WEFT_FN void weft_pthread_pool_advance(weft_pthread_pool *p, weft_pthread_loop *loop) {
    const size_t index = loop->next++;
    loop->running++;
    if (loop->next == loop->n) { /* the last one: nobody else shall look here */
        weft_pthread_loop **at = &p->loops;
        while (*at != loop) at = &(*at)->older;
        *at = loop->older;
    }
    pthread_mutex_unlock(&p->lock);
    loop->body(loop->arg, index);
    pthread_mutex_lock(&p->lock);
    if (--loop->running == 0 && loop->next == loop->n) {
        pthread_cond_signal(&loop->done);
        weft_pthread_pool_tell(p);
    }
}

WEFT_FN void *weft_pthread_pool_thread(void *arg) {
    weft_pthread_pool *p = (weft_pthread_pool *)arg;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        if (p->loops) {
            weft_pthread_pool_advance(p, p->loops);
        } else if (p->tasks) {
            const weft_pool_task run = p->task[p->first_task].run;
            void *const task_arg = p->task[p->first_task].arg;
            p->first_task = (p->first_task + 1) % WEFT_PTHREAD_POOL_TASKS;
            p->tasks--;
            pthread_mutex_unlock(&p->lock);
            run(task_arg);
            pthread_mutex_lock(&p->lock);
        } else if (p->ending) {
            break;
        } else if (!weft_pthread_pool_linger(p) && !p->loops && !p->tasks && !p->ending) {
            p->sleeping++;
            pthread_cond_wait(&p->work, &p->lock);
            p->sleeping--;
        }
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

WEFT_FN void weft_pthread_pool_for(void *ctx, size_t n, weft_pool_body body, void *arg) {
    weft_pthread_pool *p = (weft_pthread_pool *)ctx;
    weft_pthread_loop loop;
    size_t i;
    if (p->threads == 0 || n < 2 || pthread_cond_init(&loop.done, NULL) != 0) {
        for (i = 0; i < n; i++) body(arg, i);
        return;
    }
    loop.body = body;
    loop.arg = arg;
    loop.n = n;
    loop.next = loop.running = 0;
    pthread_mutex_lock(&p->lock);
    loop.older = p->loops;
    p->loops = &loop;
    weft_pthread_pool_tell(p);
    for (i = 0; i < p->sleeping && i + 1 < n; i++) pthread_cond_signal(&p->work);
    while (loop.next < loop.n) weft_pthread_pool_advance(p, &loop);
    while (loop.running)
        if (!weft_pthread_pool_linger(p) && loop.running) pthread_cond_wait(&loop.done, &p->lock);
    pthread_mutex_unlock(&p->lock);
    pthread_cond_destroy(&loop.done);
}

WEFT_FN weft_status weft_pthread_pool_submit(void *ctx, weft_pool_task task, void *arg) {
    weft_pthread_pool *p = (weft_pthread_pool *)ctx;
    weft_status s = WEFT_OK;
    if (p->threads == 0) return WEFT_ERR_UNSUPPORTED;
    pthread_mutex_lock(&p->lock);
    if (p->tasks == WEFT_PTHREAD_POOL_TASKS) {
        s = WEFT_ERR_CAPACITY;
    } else {
        const size_t at = (p->first_task + p->tasks++) % WEFT_PTHREAD_POOL_TASKS;
        p->task[at].run = task;
        p->task[at].arg = arg;
        weft_pthread_pool_tell(p);
        if (p->sleeping) pthread_cond_signal(&p->work);
    }
    pthread_mutex_unlock(&p->lock);
    return s;
}

/* No task may be submitted, and no loop begun, from now on. */
WEFT_FN void weft_pthread_pool_destroy(weft_pthread_pool *p) {
    size_t i;
    pthread_mutex_lock(&p->lock);
    p->ending = 1;
    weft_pthread_pool_tell(p);
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (i = 0; i < p->threads; i++) pthread_join(p->thread[i], NULL);
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->lock);
    free(p->thread);
}

/* `threads` is how many work on a loop, its caller included: threads - 1 are started. The pool must not move. */
WEFT_FN weft_status weft_pthread_pool_create(weft_pthread_pool *p, size_t threads) {
    memset(p, 0, sizeof *p);
    if (threads == 0) return WEFT_ERR_ARGUMENT;
    p->pool.ctx = p;
    p->pool.parallel_for = weft_pthread_pool_for;
    p->pool.submit = weft_pthread_pool_submit;
    p->thread = (pthread_t *)calloc(threads, sizeof *p->thread);
    if (!p->thread) return WEFT_ERR_MEMORY;
    if (pthread_mutex_init(&p->lock, NULL) != 0) {
        free(p->thread);
        return WEFT_ERR_MEMORY;
    }
    if (pthread_cond_init(&p->work, NULL) != 0) {
        pthread_mutex_destroy(&p->lock);
        free(p->thread);
        return WEFT_ERR_MEMORY;
    }
    for (; p->threads + 1 < threads; p->threads++) {
        if (pthread_create(&p->thread[p->threads], NULL, weft_pthread_pool_thread, p) != 0) {
            weft_pthread_pool_destroy(p); /* those that did start */
            return WEFT_ERR_MEMORY;
        }
    }
    return WEFT_OK;
}

#endif
