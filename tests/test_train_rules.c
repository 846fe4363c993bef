/* SPDX-License-Identifier: MIT
 * The rules of examples/train that are optimisers too (saddle.h), as whole runs over threads: what one worker alone
 * does is done by hand, bytes sent are what the codec says, runs can be repeated, workers die, idle and diverge. And
 * what is measured of a model. */
#define _POSIX_C_SOURCE 200809L
#define GRAWA_IMPLEMENTATION
#define SUBSPACE_IMPLEMENTATION
#define HPSGD_IMPLEMENTATION
#define DSGD_AAU_IMPLEMENTATION
#define SADDLE_IMPLEMENTATION
#include "grawa.h"
#include "subspace.h"
#include "hpsgd.h"
#include "dsgd_aau.h"
#include "saddle.h"
#include "weft_threads.h"

#include "train/crew.c"
#include "train/data.c"
#include "train/device.c"
#include "train/gemm.c"
#include "train/glyphs.c"
#include "train/launch.c"
#include "train/library.c"
#include "train/measure.c"
#include "train/model.c"
#include "train/nn.c"
#include "train/optim.c"
#include "train/options.c"
#include "train/ports.c"
#include "train/progress.c"
#include "train/rules.c"
#include "train/run.c"
#include "train/saddles.c"
#include "train/team.c"
#include "train/trainer.c"
#include "train/util.c"
#include "train/values.c"

#include <check.h>

enum { IMAGES = 960, TESTS = 200, FIRST = ALGORITHM_QSADDLE, RULES = ALGORITHMS - ALGORITHM_QSADDLE };

static dataset images;
static model softmax;

static void make_images(void) {
    glyphs_make(&images, IMAGES, TESTS, 1);
    model_make(&softmax, MODEL_SOFTMAX, 0, &images);
}

static void free_images(void) {
    dataset_free(&images);
}

static options plain(size_t workers, const char *topology) {
    char *line[] = {"train"};
    options o;
    options_parse(&o, 1, line);
    o.workers = workers;
    o.topology = topology;
    o.batch = 16;
    o.epochs = 2;
    return o;
}

static run_result done(int which, const options *o) {
    run_result r;
    run_train(&r, (algorithm)(FIRST + which), 0, o, &images, &softmax);
    return r;
}

/* ---- what is measured ---- */

/* The mean loss on the images that sharpness is of, by one pass; and its gradient. */
static double loss_at(const dataset *d, const model *m, const tensor_list *p, tensor_list *g) {
    const size_t count = d->train.count, n = count < 500 ? count : 500;
    workspace *s = workspace_new(m, n);
    float *x = new_floats(n * d->features);
    uint8_t *y = new_array(n, 1);
    uint32_t *index = new_array(n, sizeof *index);
    size_t right = 0;
    for (size_t i = 0; i < n; i++) index[i] = (uint32_t)(i * count / n);
    dataset_gather(d, &d->train, index, n, x, y);
    double loss = model_batch(m, s, p, x, y, n, g, &right) / (double)n;
    workspace_free(s);
    free(x);
    free(y);
    free(index);
    return loss;
}

START_TEST(sharpness_is_the_rise_along_the_gradient) {
    static const size_t count[] = {960, 150, 3000, 1};
    dataset d;
    model m;
    double square = 0.0, loss, accuracy;
    glyphs_make(&d, count[_i], 250, 1);
    model_make(&m, MODEL_MLP, 20, &d);
    tensor_list p = tensors_new(&m), g = tensors_new(&m);
    model_init(&m, &p, 3);
    const double here = loss_at(&d, &m, &p, &g), said = measure_sharpness(&m, &d, &p);
    for (size_t t = 0; t < m.tensors; t++)
        for (size_t i = 0; i < m.tensor[t].count; i++) square += (double)g.tensor[t][i] * (double)g.tensor[t][i];
    for (size_t t = 0; t < m.tensors; t++)
        for (size_t i = 0; i < m.tensor[t].count; i++)
            p.tensor[t][i] += (float)(0.05 * (double)g.tensor[t][i] / sqrt(square));
    ck_assert_double_gt(said, 0.01);
    ck_assert_double_eq_tol(said, loss_at(&d, &m, &p, NULL) - here, 1e-6);

    /* and the test set: 250 images, the last piece not a whole one */
    size_t right = 0;
    workspace *s = workspace_new(&m, 250);
    float *x = new_floats(250 * d.features);
    uint8_t y[250];
    uint32_t index[250];
    for (uint32_t i = 0; i < 250; i++) index[i] = i;
    dataset_gather(&d, &d.test, index, 250, x, y);
    const double want = model_batch(&m, s, &p, x, y, 250, NULL, &right) / 250.0;
    measure_test(&m, &d, &p, &loss, &accuracy);
    ck_assert_double_eq_tol(loss, want, 1e-12);
    ck_assert(accuracy == (double)right / 250.0);
    workspace_free(s);
    free(x);
    tensors_free(&m, &p);
    tensors_free(&m, &g);
    dataset_free(&d);
}
END_TEST

/* ---- one worker alone ---- */

/* The same by hand, in the trainer's own words: SGD with Nesterov's momentum, at x + rho g / |g| if there is a rho.
 * Returns the loss at the end. */
static double by_hand(const options *o, float momentum, double rho) {
    const size_t steps = o->epochs * IMAGES / o->batch;
    tensor_list p = tensors_new(&softmax), g = tensors_new(&softmax), up = tensors_new(&softmax);
    workspace *s = workspace_new(&softmax, o->batch);
    float *x = new_floats(o->batch * images.features);
    uint8_t y[64];
    uint32_t index[64];
    partition all;
    sampler order;
    sgd steps_by;
    double loss, accuracy;
    size_t right = 0;
    model_init(&softmax, &p, o->seed);
    partition_make(&all, &images, 1, o->alpha, o->seed);
    sampler_init(&order, &all, 0, &images, o->seed);
    sgd_init(&steps_by, &softmax, momentum, (float)o->weight_decay, true);
    for (size_t step = 0; step < steps; step++) {
        sampler_next(&order, o->batch, index);
        dataset_gather(&images, &images.train, index, o->batch, x, y);
        model_batch(&softmax, s, &p, x, y, o->batch, &g, &right);
        if (rho > 0.0) {
            double square = 0.0;
            for (size_t t = 0; t < softmax.tensors; t++)
                for (size_t i = 0; i < softmax.tensor[t].count; i++)
                    square += (double)g.tensor[t][i] * (double)g.tensor[t][i];
            for (size_t t = 0; t < softmax.tensors; t++)
                for (size_t i = 0; i < softmax.tensor[t].count; i++)
                    up.tensor[t][i] = p.tensor[t][i] + (float)(rho / sqrt(square)) * g.tensor[t][i];
            model_batch(&softmax, s, &up, x, y, o->batch, &g, &right);
        }
        sgd_step(&steps_by, &softmax, &p, &g, (float)(o->rate * (1.0 - (double)step / (double)steps)));
    }
    measure_test(&softmax, &images, &p, &loss, &accuracy);
    tensors_free(&softmax, &p);
    tensors_free(&softmax, &g);
    tensors_free(&softmax, &up);
    workspace_free(s);
    free(x);
    partition_free(&all);
    sampler_free(&order);
    sgd_free(&steps_by, &softmax);
    return loss;
}

START_TEST(alone_it_is_what_one_writes_by_hand) {
    static const struct {
        algorithm rule;
        double momentum, rho;
    } as[] = {{ALGORITHM_DSGDM, 0.9, 0.0},
              {ALGORITHM_NGC, 0.9, 0.0},
              {ALGORITHM_DPSGD, 0.0, 0.0},
              {ALGORITHM_NSADDLE, 0.9, 0.3},
              {ALGORITHM_QSADDLE, 0.0, 0.3}};
    options o = plain(1, "ring");
    o.momentum = as[_i].momentum;
    o.weight_decay = 0.01;
    if (as[_i].rho > 0.0) o.rho = as[_i].rho;
    run_result r = done((int)as[_i].rule - FIRST, &o);
    ck_assert_double_eq_tol(r.point[r.points - 1].loss, by_hand(&o, (float)o.momentum, as[_i].rho), 2e-6);
    ck_assert(fabs(r.point[0].loss - r.point[r.points - 1].loss) > 0.5);
    run_free(&r);
}
END_TEST

/* rho is told, and without it the climb is none. */
START_TEST(without_radius_it_is_its_base) {
    options o = plain(4, "ring");
    double loss[3];
    for (int k = 0; k < 3; k++) {
        o.rho = k == 1 ? 0.0 : 0.2;
        run_result r = done((k == 2 ? ALGORITHM_QGM : ALGORITHM_QSADDLE) - FIRST + _i, &o); /* or NGC, N-SADDLe */
        loss[k] = r.point[r.points - 1].loss;
        run_free(&r);
    }
    ck_assert(loss[0] != loss[1] && loss[1] == loss[2]);
}
END_TEST

/* ---- the network ---- */

START_TEST(bytes_are_what_the_codec_says) {
    static const char *const name[] = {"none", "bf16", "f16", "q8", "q4", "qsgd:6:biased", "topk:0.3"};
    const size_t names = sizeof name / sizeof *name;
    options o = plain(5, "ring");
    uint64_t once = 0;
    ck_assert(weft_codec_parse(&o.codec, name[(size_t)_i % names]));
    o.gamma = 0.25;
    for (size_t t = 0; t < softmax.tensors; t++)
        once += weft_codec_bytes(&o.codec, WEFT_F32, softmax.tensor[t].count, softmax.tensor[t].count);
    run_result r = done(_i / (int)names, &o);
    const bool cross = r.algorithm == ALGORITHM_NSADDLE || r.algorithm == ALGORITHM_NGC;
    const uint64_t steps = 2 * IMAGES / (5 * 16);
    ck_assert_uint_eq(r.rounds, steps);
    ck_assert_uint_eq(r.payload, 5 * steps * 2 * once * (cross ? 2 : 1));
    ck_assert_uint_eq(r.point[0].payload, 0);
    ck_assert_uint_eq(r.point[r.points - 1].payload, r.payload);
    for (size_t k = 1; k < r.points; k++) {
        ck_assert_uint_ge(r.point[k].payload, r.point[k - 1].payload);
        ck_assert(isfinite(r.point[k].sharpness));
    }
    run_free(&r);
}
END_TEST

static bool same_points(const run_result *a, const run_result *b) {
    bool same = a->points == b->points;
    for (size_t k = 0; same && k < a->points; k++) {
        const run_point *p = &a->point[k], *q = &b->point[k];
        same = p->loss == q->loss && p->distance == q->distance && p->sharpness == q->sharpness &&
               p->accuracy == q->accuracy && p->steps == q->steps && p->payload == q->payload;
    }
    return same;
}

/* Neither the schedule nor a slow worker shows in the numbers. */
START_TEST(a_run_can_be_repeated) {
    options o = plain(4, _i % 2 ? "ring" : "exponential");
    weft_codec_parse(&o.codec, "q8");
    o.alpha = 0.5;
    run_result a = done(_i / 2, &o), b = done(_i / 2, &o);
    ck_assert(same_points(&a, &b));
    run_free(&b);
    o.slow[1] = 3.0;
    b = done(_i / 2, &o);
    ck_assert(same_points(&a, &b));
    ck_assert_double_gt(a.point[a.points / 2].distance, 0.0);
    run_free(&a);
    run_free(&b);
}
END_TEST

START_TEST(survivors_go_on) {
    options o = plain(5, _i % 2 ? "ring" : "complete");
    const uint64_t steps = 2 * IMAGES / (5 * 16);
    if (_i / 2 % 2) weft_codec_parse(&o.codec, "q8");
    o.kill[1] = 0.5;
    o.kill[3] = 0.25;
    run_result r = done(_i / 4, &o);
    ck_assert(r.worker[1].died >= 0.0 && r.worker[3].died >= 0.0 && r.worker[0].died < 0.0);
    ck_assert_uint_eq(r.rounds, steps);
    ck_assert_uint_eq(r.point[r.points - 1].steps, 3 * steps + steps / 2 + steps / 4);
    ck_assert_double_lt(r.point[r.points - 1].loss, r.point[0].loss - 0.5);
    ck_assert(r.point[r.points - 1].payload <= r.payload && r.point[r.points - 1].payload > 0);
    run_free(&r);
}
END_TEST

/* By the clock: each stops at a step of its own, and nobody waits for who is gone. */
START_TEST(it_ends_by_the_clock) {
    options o = plain(5, "ring");
    o.seconds = 0.1;
    o.slow[2] = 2.0;
    run_result r = done(_i, &o);
    ck_assert_uint_gt(r.points, 0);
    ck_assert(isfinite(r.point[r.points - 1].loss));
    run_free(&r);
}
END_TEST

START_TEST(one_that_diverges_says_so) {
    options o = plain(3, "ring");
    o.rate = 1e36;
    run_result r = done(_i, &o);
    run_free(&r);
}
END_TEST

int main(void) {
    Suite *s = suite_create("train rules");
    TCase *t = tcase_create("rules");
    tcase_set_timeout(t, 60);
    tcase_add_unchecked_fixture(t, make_images, free_images);
    tcase_add_loop_test(t, sharpness_is_the_rise_along_the_gradient, 0, 4);
    tcase_add_loop_test(t, alone_it_is_what_one_writes_by_hand, 0, 5);
    tcase_add_loop_test(t, without_radius_it_is_its_base, 0, 2);
    tcase_add_loop_test(t, bytes_are_what_the_codec_says, 0, 7 * RULES);
    tcase_add_loop_test(t, a_run_can_be_repeated, 0, 2 * RULES);
    tcase_add_loop_test(t, survivors_go_on, 0, 4 * RULES);
    tcase_add_loop_test(t, it_ends_by_the_clock, 0, RULES);
    tcase_add_loop_exit_test(t, one_that_diverges_says_so, EXIT_FAILURE, 0, RULES);
    suite_add_tcase(s, t);

    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
