/* SPDX-License-Identifier: MIT
 * weft_sim_pace.h: workers of the simulator that take as long as weft_pace.h draws: include it after weft_sim.h, and
 * link with -lm. A draw depends on the simulator's seed, the worker and the step, and on nothing that has happened.
 *
 *     weft_pace pace = weft_pace_default();
 *     weft_pace_parse_stragglers(&pace, "0.1x10");
 *     ...
 *     weft_sim_compute(&sim, rank, &pace, step);   // in a worker's step: it is called again when it has computed */
#ifndef WEFT_SIM_PACE_H
#define WEFT_SIM_PACE_H

#ifndef WEFT_SIM_H
#error "include weft_sim.h before weft_sim_pace.h"
#endif

#include "weft_pace.h"

/* What this step of a worker takes, in nanoseconds of virtual time. Transient stragglers are counted, so ask once. */
WEFT_FN uint64_t weft_sim_pace(weft_sim *s, uint32_t rank, const weft_pace *pace, uint64_t step) {
    if (pace->probability > 0.0 && weft_pace_uniform(s->desc.seed, rank, step, 2) < pace->probability)
        s->happened[WEFT_SIM_STRAGGLED]++;
    return weft_pace_draw_ns(pace, s->desc.seed, rank, step);
}

/* The worker computes: whatever happens, its step is not called before it is done, and is called then. Returns how long
 * that takes. (A worker that listens while it computes: weft_sim_sleep for weft_sim_pace.) */
WEFT_FN uint64_t weft_sim_compute(weft_sim *s, uint32_t rank, const weft_pace *pace, uint64_t step) {
    const uint64_t ns = weft_sim_pace(s, rank, pace, step);
    weft_sim_busy(s, rank, ns);
    return ns;
}

#endif /* WEFT_SIM_PACE_H */
