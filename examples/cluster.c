/* SPDX-License-Identifier: MIT
 * cluster.c: a cluster in one thread and in virtual time: what will a network, stragglers and losses do to training?
 *
 *     build/cluster --workers 64 --topology torus --stragglers 0.1x10
 *     build/cluster --algorithm all --workers 8 --stragglers 0.1x10 --svg cluster.svg
 *     build/cluster --workers 9 --kill 3:10 --restart 3:30 --partition 4:35:50 --svg faults.svg
 *     build/cluster --workers 10000 --topology exponential --task quadratic
 *
 * Where to look: cluster/node.c is the only file that knows of the library, cluster/run.c drives the workers over
 * transports/weft_sim.h; models, data and pictures are those of train.c. */
#include "cluster/options.h"
#include "cluster/report.h"
#include "cluster/run.h"
#include "cluster/task.h"
#include "train/util.h"
#include "weft_codec_name.h"
#include "weft_topology.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool on_graphs(const options *o) {
    for (int m = 0; m < METHODS; m++)
        if (o->run[m] && !method_has_members((method)m)) return true;
    return false;
}

static void describe(const options *o, const task *t, char *out, size_t capacity) {
    char codec[40];
    int n = snprintf(out, capacity, "%s; %zu workers", t->name, o->workers);
    if (on_graphs(o)) n += snprintf(out + n, capacity - (size_t)n, ", %s", o->topology);
    if (o->pace.probability > 0.0)
        n += snprintf(out + n, capacity - (size_t)n, ", %g %% of steps %gx slower", 100.0 * o->pace.probability,
                      o->pace.slowdown);
    if (o->pace.slow)
        n += snprintf(out + n, capacity - (size_t)n, ", %lu workers always %gx slower", (unsigned long)o->pace.slow,
                      o->pace.slow_factor);
    if (o->loss > 0.0) n += snprintf(out + n, capacity - (size_t)n, ", %g %% of packets lost", 100.0 * o->loss);
    if (o->alpha > 0.0) n += snprintf(out + n, capacity - (size_t)n, ", Dirichlet(%g) shares", o->alpha);
    if (o->codec.kind != WEFT_CODEC_IDENTITY)
        snprintf(out + n, capacity - (size_t)n, ", messages as %s", weft_codec_text(&o->codec, codec, sizeof codec));
}

int main(int argc, char **argv) {
    options o;
    task t;
    run_result run[METHODS];
    weft_graph graph;
    size_t runs = 0;
    char title[400], why[240];
    program_name = "cluster";
    options_parse(&o, argc, argv);
    if (o.trace) { /* every run appends to it */
        FILE *f = fopen(o.trace, "w");
        if (f) fclose(f);
    }
    task_make(&t, &o);
    void *memory =
        weft_topology_make(on_graphs(&o) ? o.topology : "ring", (uint32_t)o.workers, o.seed, &graph, why, sizeof why);
    if (!memory) bad_input("--topology: %s", why);
    describe(&o, &t, title, sizeof title);
    printf("%s; %g s of virtual time, seed %llu\n\n", title, o.seconds, (unsigned long long)o.seed);
    report_head();
    for (int m = 0; m < METHODS; m++) {
        if (!o.run[m]) continue;
        run_simulate(&run[runs], (method)m, &o, &t, &graph);
        report_line(&run[runs++]);
    }
    if (o.csv) report_csv(o.csv, runs, run);
    if (o.svg) report_picture(o.svg, title, &o, runs, run);
    for (size_t i = 0; i < runs; i++) run_free(&run[i]);
    task_free(&t);
    free(memory);
    return EXIT_SUCCESS;
}
