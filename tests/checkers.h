/* SPDX-License-Identifier: MIT
 * checkers.h: for tests over the simulator: the checks of weft_sim_check.h as assertions of Check, and runs that can be
 * replayed from the command line:
 *
 *     CK_RUN_CASE=... WEFT_SEED=7 WEFT_TRACE=trace.txt build/test/test_x
 *
 * The checks themselves are in examples/transports/, so that programs that simulate can use them, too. */
#ifndef CHECKERS_H
#define CHECKERS_H

#include "../examples/transports/weft_sim_check.h"

#include <check.h>

/* A run like this one with this command, in which %s stands for the seed. Takes seed and trace from the environment if
 * they are there: 1 if the seed is. */
static inline int checkers_replay(weft_sim_desc *d, const char *command) {
    const char *seed = getenv("WEFT_SEED"), *trace = getenv("WEFT_TRACE");
    d->replay = command;
    if (trace && trace[0]) d->trace_path = trace;
    if (!seed || !seed[0]) return 0;
    d->seed = strtoull(seed, NULL, 10);
    return 1;
}

#define CHECKERS_FINE(c) ck_assert_msg(!(c)->why[0], "%s", (c)->why)

/* Everything that was asked for has really happened. */
#define CHECKERS_HAPPENED(sim)                                                                                         \
    ck_assert_msg(!weft_sim_missing(sim), "seed %llu: this has not happened: %s",                                      \
                  (unsigned long long)(sim)->desc.seed, weft_sim_missing(sim))

/* A check on something planted: it fails, and says so in these words. Begins the check anew. */
#define CHECKERS_CATCHES(c, check, words)                                                                              \
    do {                                                                                                               \
        const weft_sim *checkers_sim = (c)->sim;                                                                       \
        ck_assert_msg(!(check), "not caught: %s", #check);                                                             \
        ck_assert_msg(strstr((c)->why, words) != NULL, "\"%s\" in: %s", words, (c)->why);                              \
        weft_check_begin(c, checkers_sim);                                                                             \
    } while (0)

#endif /* CHECKERS_H */
