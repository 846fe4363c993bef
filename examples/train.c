/* SPDX-License-Identifier: MIT
 * train.c: trains an image classifier with several workers that learn together, and compares the ways of doing so.
 *
 *   build/train --demo                                         everything, on data that it draws itself
 *   build/train --data fashion-mnist --algorithm all --workers 4
 *   build/train --algorithm mgrawa --model cnn --workers 8 --alpha 0.3
 *
 *   build/train --device cuda --algorithm mgrawa               on a GPU (make train-cuda)
 *
 * Where to look: train/rules.c is where the workers talk, and with train/saddles.c the only file that knows of the
 * library (train/library.c implements it); train/run.c is the training loop; train/gpu.cu are models on a GPU; data,
 * model, gemm, optim, plot, ... are what any trainer has. */
#include "train/crew.h"
#include "train/data.h"
#include "train/glyphs.h"
#ifdef WEFT_CUDA
#include "train/gpu.h"
#endif
#include "train/model.h"
#include "train/options.h"
#include "train/report.h"
#include "train/run.h"
#include "train/util.h"

#include "weft_codec_name.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void load(dataset *d, const options *o) {
    if (o->data)
        dataset_load(d, o->data);
    else
        glyphs_make(d, GLYPH_TRAIN, GLYPH_TEST, 1); /* the same set whatever --seed: runs stay comparable */
}

static void describe(const options *o, const model *m) {
    printf("%s with %zu parameters in %zu tensors; %zu workers, batch %zu each, period %zu, seed %llu",
           MODEL_NAME[m->kind], m->parameters, m->tensors, o->workers, o->batch, o->period,
           (unsigned long long)o->seed);
    if (o->optimiser == OPTIMISER_ADAM) printf(", Adam");
    if (o->device == DEVICE_CUDA) printf(", on a GPU");
    if (o->alpha > 0.0) printf(", Dirichlet(%g) shares", o->alpha);
    for (size_t i = 0; i < o->workers; i++) {
        if (o->slow[i] > 1.0) printf(", worker %zu %g times slower", i, o->slow[i]);
        if (o->kill[i] <= 1.0) printf(", worker %zu killed at %g %% of the run", i, 100.0 * o->kill[i]);
    }
    if (o->pace.probability > 0.0)
        printf(", %g %% of steps %g times slower", 100.0 * o->pace.probability, o->pace.slowdown);
    bool saddles = false;
    for (int a = ALGORITHM_QSADDLE; a < ALGORITHMS; a++) saddles = saddles || o->run[a];
    if (saddles || o->run[ALGORITHM_DSGD_AAU]) printf(", on the graph %s", o->topology);
    if (saddles && o->codec.kind != WEFT_CODEC_IDENTITY) {
        char text[40];
        printf(", messages as %s", weft_codec_text(&o->codec, text, sizeof text));
    }
    printf("\n\n");
    fflush(stdout);
}

/* All chosen algorithms, one after the other: table, numbers, picture. */
static void compare(const options *o, const dataset *d) {
    model m;
    run_result run[ALGORITHMS];
    size_t runs = 0, slow = 0, killed = 0;
    unsigned number = 0;
    char title[200];
    model_make(&m, o->model, o->hidden, d);
    describe(o, &m);
    for (size_t i = 0; i < o->workers; i++) {
        slow += o->slow[i] > 1.0;
        killed += o->kill[i] <= 1.0;
    }
    report_head();
    for (int a = 0; a < ALGORITHMS; a++) {
        if (!o->run[a]) continue;
        run_train(&run[runs], (algorithm)a, number++, o, d, &m);
        if (!run[runs].points) { /* another process reports it */
            run_free(&run[runs]);
            continue;
        }
        if (o->rank != 0 && runs == 0) { /* those of lower ranks are gone */
            crew_speak(o);
            report_head();
        }
        report_line(&run[runs++]);
    }
    if (o->csv && runs) report_csv(o->csv, runs, run);
    const bool uneven = slow + killed > 0 || o->pace.probability > 0.0;
    if (o->pace.probability > 0.0)
        snprintf(title, sizeof title, "%s, %s, %zu workers: %zu slow, %zu killed, %g %% of steps %gx slower", d->name,
                 MODEL_NAME[m.kind], o->workers, slow, killed, 100.0 * o->pace.probability, o->pace.slowdown);
    else if (uneven)
        snprintf(title, sizeof title, "%s, %s, %zu workers: %zu slow, %zu killed", d->name, MODEL_NAME[m.kind],
                 o->workers, slow, killed);
    else
        snprintf(title, sizeof title, "%s, %s, %zu workers", d->name, MODEL_NAME[m.kind], o->workers);
    if (o->svg && runs && uneven)
        report_picture(o->svg, title, o, runs, run);
    else if (o->svg && runs)
        report_curves(o->svg, title, runs, run);
    for (size_t i = 0; i < runs; i++) run_free(&run[i]);
}

/* demo.svg -> demo-curves.svg */
static void curves_name(const char *svg, char *out, size_t capacity) {
    const char *dot = strrchr(svg, '.');
    size_t stem = dot && !strchr(dot, '/') ? (size_t)(dot - svg) : strlen(svg);
    int n = snprintf(out, capacity, "%.*s-curves%s", (int)stem, svg, svg + stem);
    if (n < 0 || (size_t)n >= capacity) bad_input("--svg: the name is too long");
}

/* First everybody alike (without what SADDLe is built on, if nobody asks for that); then a race against the clock in
 * which one worker is slow and another dies, by the plain mean, which waits for all at every step, and by two rules
 * that do not. The cnn, because its steps are long enough to see. */
static void demo(const options *given, const dataset *d) {
    options o = *given;
    char curves[4096];
    for (int a = ALGORITHM_QGM; o.all && a < ALGORITHMS; a++) o.run[a] = false;
    if (o.svg) {
        curves_name(o.svg, curves, sizeof curves);
        o.svg = curves;
    }
    compare(&o, d);

    o = *given;
    o.csv = NULL;
    o.model = MODEL_CNN;
    o.seconds = 8.0;
    o.trigger = TRIGGER_TOTAL;
    if (o.workers < 3) o.workers = 3;
    o.slow[o.workers - 1] = 10.0;
    o.kill[1] = 0.5;
    for (int a = 0; a < ALGORITHMS; a++)
        o.run[a] = a == ALGORITHM_MEAN || a == ALGORITHM_MGRAWA || a == ALGORITHM_DSGD_AAU;
    puts("");
    compare(&o, d);
}

int main(int argc, char **argv) {
    options o;
    dataset d;
    options_parse(&o, argc, argv);
    if (o.launch) load(&d, &o); /* once for all of them */
    crew_begin(&o, &argc, &argv);
#ifdef WEFT_CUDA
    if (o.device == DEVICE_CUDA) gpu_begin(o.rank); /* (a process that has begun with it must not be forked) */
#endif
    if (!o.launch) load(&d, &o);
    printf("%s: %zu training and %zu test images of %zux%zux%zu, %zu classes\n", d.name, d.train.count, d.test.count,
           d.width, d.height, d.channels, d.classes);
    (o.demo ? demo : compare)(&o, &d);
    dataset_free(&d);
    return crew_end(&o, EXIT_SUCCESS);
}
