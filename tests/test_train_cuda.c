/* SPDX-License-Identifier: MIT
 * build/train --device cuda, whole, on the CPU: the runtime is cuda_shim.h's, where the host cannot touch device memory
 * and sees nothing that it has not waited for, and products are cublas_double.h's, which add up in the order of gemm.c.
 * So whatever is trained there has the bits of --device cpu: every layer and optimiser, every rule, over threads and
 * over TCP. What was done on the device is counted. */
#define _DEFAULT_SOURCE
#include "train/crew.h"
#include "train/data.h"
#include "train/device.h"
#include "train/glyphs.h"
#include "train/gpu.h"
#include "train/options.h"
#include "train/rng.h"
#include "train/run.h"
#include "train/util.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

int train_main(int argc, char **argv); /* examples/train.c */
void cuda_work_done(uint64_t *launches, uint64_t *copies, uint64_t *products);

typedef struct work {
    uint64_t launches, copies, products;
} work;

static work work_now(void) {
    work w;
    cuda_work_done(&w.launches, &w.copies, &w.products);
    return w;
}

/* Of one step: products, and launches of the model and the optimiser. */
static uint64_t products_of(model_kind kind) {
    return kind == MODEL_MLP ? 5 : 2;
}
static uint64_t launches_of(model_kind kind) {
    return kind == MODEL_MLP ? 7 + 4 : 3 + 2;
}

/* ---- layers and optimisers ---- */

static const struct {
    model_kind kind;
    size_t hidden, batch;
} SHAPE[] = {{MODEL_MLP, 1, 1},     {MODEL_MLP, 7, 5},       {MODEL_MLP, 33, 64},
             {MODEL_SOFTMAX, 0, 1}, {MODEL_SOFTMAX, 0, 300}, {MODEL_MLP, 40, 257}};
enum { SHAPES = sizeof SHAPE / sizeof *SHAPE };

static tensor_list noises(const model *m, uint64_t seed) {
    tensor_list t = tensors_new(m);
    rng r = rng_make(seed, 77, 0);
    for (size_t i = 0; i < m->tensors; i++)
        for (size_t j = 0; j < m->tensor[i].count; j++) t.tensor[i][j] = (float)(0.4 * rng_uniform(&r) - 0.2);
    return t;
}

static void same_tensors(const model *m, const tensor_list *want, device *d, const tensor_list *far, const char *what) {
    tensor_list got = tensors_new(m);
    d->can->get(d, &got, far);
    for (size_t i = 0; i < m->tensors; i++)
        for (size_t j = 0; j < m->tensor[i].count; j++)
            ck_assert_msg(memcmp(&want->tensor[i][j], &got.tensor[i][j], sizeof(float)) == 0,
                          "%s: %s[%zu] is %.9g, not %.9g", what, m->tensor[i].name, j, (double)got.tensor[i][j],
                          (double)want->tensor[i][j]);
    tensors_free(m, &got);
}

static tensor_list sent(device *d, const tensor_list *host) {
    tensor_list t = d->can->tensors_new(d);
    d->can->put(d, &t, host);
    return t;
}

START_TEST(layers_and_optimisers_have_the_bits_of_the_processor) {
    const size_t n = SHAPE[_i].batch;
    dataset data;
    model m;
    size_t right[2] = {3, 3};
    float *x = new_floats(n * GLYPH_SIDE * GLYPH_SIDE);
    uint8_t *y = new_array(n, 1);
    uint32_t *index = new_array(n, sizeof *index);
    glyphs_make(&data, 400, 10, 1);
    model_make(&m, SHAPE[_i].kind, SHAPE[_i].hidden, &data);
    for (size_t i = 0; i < n; i++) index[i] = (uint32_t)i;
    dataset_gather(&data, &data.train, index, n, x, y);

    device *near = device_cpu(&m, n), *far = gpu_open(&m, n);
    tensor_list p = noises(&m, 1), g = tensors_new(&m), p_far = sent(far, &p), g_far = far->can->tensors_new(far);
    if (SHAPE[_i].kind == MODEL_SOFTMAX) p.tensor[1][3] = 900.0f; /* beyond what exp() has */
    far->can->put(far, &p_far, &p);
    same_tensors(&m, &g, far, &g_far, "fresh tensors");

    work before = work_now();
    double want = near->can->batch(near, &p, x, y, n, &g, &right[0]);
    ck_assert_uint_eq(work_now().launches, before.launches);
    double loss = far->can->batch(far, &p_far, x, y, n, &g_far, &right[1]);
    ck_assert_uint_eq(work_now().products - before.products, products_of(m.kind));
    ck_assert_uint_eq(work_now().launches - before.launches, launches_of(m.kind) - m.tensors);
    ck_assert_msg(memcmp(&want, &loss, sizeof loss) == 0, "a loss of %.17g, not %.17g", loss, want);
    ck_assert_uint_eq(right[0], right[1]);
    same_tensors(&m, &g, far, &g_far, "gradient");

    /* without a gradient, of fewer images */
    right[0] = right[1] = 0;
    want = near->can->batch(near, &p, x, y, (n + 1) / 2, NULL, &right[0]);
    loss = far->can->batch(far, &p_far, x, y, (n + 1) / 2, NULL, &right[1]);
    ck_assert(memcmp(&want, &loss, sizeof loss) == 0 && right[0] == right[1]);
    same_tensors(&m, &g, far, &g_far, "gradient, untouched");

    for (int nesterov = 0; nesterov < 2; nesterov++) {
        sgd o = {.momentum = 0.9f, .weight_decay = 0.01f, .nesterov = nesterov, .velocity = noises(&m, 2)}, o_far = o;
        o_far.velocity = sent(far, &o.velocity);
        for (int k = 0; k < 2; k++) {
            near->can->sgd_step(near, &o, &p, &g, 0.3f);
            far->can->sgd_step(far, &o_far, &p_far, &g_far, 0.3f);
        }
        same_tensors(&m, &p, far, &p_far, "sgd: parameters");
        same_tensors(&m, &o.velocity, far, &o_far.velocity, "sgd: velocity");
        near->can->sgd_step(near, &o, &p, &g, 0.3f);
        far->can->sgd_step(far, &o_far, &p_far, &g_far, 0.3f);
        tensors_free(&m, &o.velocity);
        far->can->tensors_free(far, &o_far.velocity); /* (it has only been asked for) */
        same_tensors(&m, &p, far, &p_far, "sgd: parameters, of the last step");
    }
    adam o = {.beta1 = 0.9f, .beta2 = 0.999f, .weight_decay = 0.01f, .first = noises(&m, 3), .second = tensors_new(&m)};
    adam o_far = o;
    o_far.first = sent(far, &o.first);
    o_far.second = sent(far, &o.second);
    for (int k = 0; k < 3; k++) {
        near->can->adam_step(near, &o, &p, &g, 0.01f);
        far->can->adam_step(far, &o_far, &p_far, &g_far, 0.01f);
    }
    same_tensors(&m, &p, far, &p_far, "adam: parameters");
    same_tensors(&m, &o.first, far, &o_far.first, "adam: first");
    same_tensors(&m, &o.second, far, &o_far.second, "adam: second");

    tensor_list *host[] = {&p, &g, &o.first, &o.second}, *device_s[] = {&p_far, &g_far, &o_far.first, &o_far.second};
    for (int i = 0; i < 4; i++) {
        tensors_free(&m, host[i]);
        far->can->tensors_free(far, device_s[i]);
    }
    near->can->close(near);
    far->can->close(far);
    free(x);
    free(y);
    free(index);
    dataset_free(&data);
}
END_TEST

/* ---- whole runs, workers being threads ---- */

enum { IMAGES = 720, TESTS = 200 };
static dataset images;

static void make_images(void) {
    glyphs_make(&images, IMAGES, TESTS, 1);
    gpu_begin(0);
}

static void free_images(void) {
    dataset_free(&images);
}

#define COMMON "--hidden", "8", "--period", "4"
static const struct {
    algorithm a;
    model_kind kind;
    const char *option[10];
} RUN[] = {
    {ALGORITHM_SINGLE, MODEL_MLP, {COMMON}},
    {ALGORITHM_MEAN, MODEL_MLP, {COMMON}},
    {ALGORITHM_SUBSPACE, MODEL_MLP, {COMMON}},
    {ALGORITHM_MGRAWA, MODEL_MLP, {COMMON, "--alpha", "0.5"}},
    {ALGORITHM_LGRAWA, MODEL_MLP, {COMMON}},
    {ALGORITHM_UNIFORM, MODEL_MLP, {COMMON}},
    {ALGORITHM_MEAN, MODEL_SOFTMAX, {COMMON, "--model", "softmax"}},
    {ALGORITHM_MGRAWA, MODEL_MLP, {COMMON, "--optimiser", "adam"}},
    {ALGORITHM_SINGLE, MODEL_SOFTMAX, {COMMON, "--optimiser", "adam", "--model", "softmax"}},
    {ALGORITHM_QSADDLE, MODEL_MLP, {COMMON, "--codec", "q8"}},
    {ALGORITHM_NSADDLE, MODEL_MLP, {COMMON, "--codec", "topk:0.25"}},
    {ALGORITHM_QGM, MODEL_SOFTMAX, {COMMON, "--codec", "sign", "--gamma", "0.3", "--model", "softmax"}},
};
enum { RUNS = sizeof RUN / sizeof *RUN };

static options options_of(const char *const *more, size_t n, const char *device_name) {
    char *line[32] = {"train", "--workers", "3", "--epochs", "2", "--batch", "30", "--device"};
    int count = 8;
    options o;
    line[count++] = (char *)(uintptr_t)device_name;
    for (size_t i = 0; i < n && more[i]; i++) line[count++] = (char *)(uintptr_t)more[i];
    options_parse(&o, count, line);
    return o;
}

static run_result run_on(int which, const char *device_name) {
    const options o = options_of(RUN[which].option, 10, device_name);
    model m;
    run_result r;
    model_make(&m, o.model, o.hidden, &images);
    ck_assert_int_eq((int)m.kind, (int)RUN[which].kind);
    run_train(&r, RUN[which].a, 0, &o, &images, &m);
    return r;
}

/* In a step; N-SADDLe: at its own model and its two neighbours', and near each. */
static unsigned gradients_of(algorithm a) {
    return a == ALGORITHM_NSADDLE ? 6 : a == ALGORITHM_QSADDLE ? 2 : 1;
}

START_TEST(a_run_has_the_bits_of_the_processor) {
    const work before = work_now();
    run_result near = run_on(_i, "cpu");
    const work between = work_now();
    ck_assert(memcmp(&before, &between, sizeof before) == 0);
    run_result far = run_on(_i, "cuda");
    const work after = work_now();
    const uint64_t steps = 2 * IMAGES / 30, launches = after.launches - between.launches;
    const uint64_t gradients = steps * gradients_of(RUN[_i].a);
    const uint64_t own = gradients * launches_of(RUN[_i].kind);

    ck_assert_uint_eq(far.point[far.points - 1].steps, steps);
    ck_assert_uint_eq(after.products - between.products, gradients * products_of(RUN[_i].kind));
    if (RUN[_i].a == ALGORITHM_SINGLE)
        ck_assert_uint_eq(launches, own);
    else /* rules have kernels, too, in every round */
        ck_assert_uint_gt(launches, own + 3 * far.rounds);
    ck_assert_uint_eq(near.points, far.points);
    ck_assert_uint_eq(near.rounds, far.rounds);
    ck_assert_uint_gt(near.rounds + (RUN[_i].a == ALGORITHM_SINGLE), 0);
    for (size_t k = 0; k < near.points; k++) {
        run_point a = near.point[k], b = far.point[k];
        a.seconds = b.seconds = 0.0;
        if (RUN[_i].a == ALGORITHM_SUBSPACE) a.payload = b.payload = 0; /* threads share host memory there */
        ck_assert_msg(
            memcmp(&a, &b, sizeof a) == 0,
            "point %zu: step %llu and %llu, loss %.17g and %.17g, distance %.17g and %.17g, sharpness %.17g and "
            "%.17g, bytes %llu and %llu",
            k, (unsigned long long)a.steps, (unsigned long long)b.steps, a.loss, b.loss, a.distance, b.distance,
            a.sharpness, b.sharpness, (unsigned long long)a.payload, (unsigned long long)b.payload);
    }
    ck_assert_double_lt(far.point[far.points - 1].loss, 0.99 * far.point[0].loss);
    run_free(&near);
    run_free(&far);
}
END_TEST

/* Rules without an order that could be repeated, and workers that die: all get to the end, and learn. */
static const struct {
    algorithm a;
    const char *option[10];
} FREE[] = {
    {ALGORITHM_HPSGD, {COMMON}},
    {ALGORITHM_DSGD_AAU, {COMMON}},
    {ALGORITHM_MGRAWA, {COMMON, "--trigger", "total"}},
    {ALGORITHM_MEAN, {COMMON, "--kill", "1:0.4"}},
    {ALGORITHM_MGRAWA, {COMMON, "--kill", "0:0.4"}},
    {ALGORITHM_SUBSPACE, {COMMON, "--kill", "2:0.4"}},
    {ALGORITHM_HPSGD, {COMMON, "--kill", "1:0.4"}},
    {ALGORITHM_DSGD_AAU, {COMMON, "--kill", "1:0.4"}},
};
enum { FREES = sizeof FREE / sizeof *FREE };

START_TEST(a_free_run_learns) {
    const options o = options_of(FREE[_i].option, 10, "cuda");
    model m;
    run_result r;
    model_make(&m, o.model, o.hidden, &images);
    const work before = work_now();
    run_train(&r, FREE[_i].a, 0, &o, &images, &m);
    const run_point *last = &r.point[r.points - 1];
    ck_assert_uint_gt(r.rounds, 0);
    ck_assert_uint_eq(work_now().products - before.products, last->steps * products_of(MODEL_MLP));
    ck_assert_double_lt(last->loss, 0.99 * r.point[0].loss);
    size_t died = 0;
    for (size_t i = 0; i < r.workers; i++) died += r.worker[i].died >= 0.0;
    ck_assert_uint_eq(died, FREE[_i].option[4] && strcmp(FREE[_i].option[4], "--kill") == 0);
    run_free(&r);
}
END_TEST

/* ---- the program, workers being processes ---- */

static work *whole;  /* of all processes */
static work already; /* before there were any */

static void add_work(void) {
    const work w = work_now();
    __atomic_fetch_add(&whole->products, w.products - already.products, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&whole->launches, w.launches - already.launches, __ATOMIC_SEQ_CST);
}

/* Its status; what it says goes to files in the folder. */
static int program(const char *folder, const char *const *more) {
    char out[300], *line[40] = {"train"};
    int status, count = 1;
    for (; more[count - 1]; count++) line[count] = (char *)(uintptr_t)more[count - 1];
    snprintf(out, sizeof out, "%s/said", folder);
    memset(whole, 0, sizeof *whole);
    fflush(NULL);
    const pid_t p = fork();
    ck_assert_int_ge(p, 0);
    if (p == 0) {
        const int f = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0666);
        if (f < 0 || dup2(f, STDOUT_FILENO) < 0 || dup2(f, STDERR_FILENO) < 0) _exit(99);
        already = work_now();
        atexit(add_work);
        exit(train_main(count, line));
    }
    ck_assert_int_eq(waitpid(p, &status, 0), p);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static char *content(const char *folder, const char *name, size_t *bytes) {
    char path[300], *text = new_array(1, 1 << 20);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *in = fopen(path, "rb");
    ck_assert_msg(in != NULL, "no file %s", path);
    *bytes = fread(text, 1, (1 << 20) - 1, in);
    fclose(in);
    return text;
}

/* Lines of the table of points, without seconds, and without bytes if they are not wanted. */
static void strip(char *csv, bool bytes) {
    char *to = csv;
    int column = 0;
    for (const char *c = csv; *c; c++) {
        if (*c == ',') column++;
        if (*c == '\n') column = 0;
        if (column != 3 && (bytes || column != 8)) *to++ = *c;
    }
    *to = 0;
}

static void folder_make(char *folder) {
    strcpy(folder, "/tmp/weft-train-cuda-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void folder_remove(const char *folder) {
    char line[300];
    snprintf(line, sizeof line, "rm -rf '%s'", folder);
    ck_assert_int_eq(system(line), 0);
}

/* With two workers the free ones, too, have one order only. */
static const struct {
    const char *name, *workers;
    bool bytes; /* ends of rounds, but not their results, are a matter of time in hpsgd */
} JOB[] = {{"mean", "2", true},   {"subspace", "2", true}, {"mgrawa", "2", true},
           {"hpsgd", "2", false}, {"dsgd_aau", "2", true}, {"lgrawa", "3", true}};
enum { JOBS = sizeof JOB / sizeof *JOB };

START_TEST(processes_have_the_bits_of_the_processor) {
    char folder[2][40], *text[2], csv[2][80];
    size_t n[2];
    for (int k = 0; k < 2; k++) {
        folder_make(folder[k]);
        snprintf(csv[k], sizeof csv[k], "%s/csv", folder[k]);
        const char *line[] = {"--device",    k ? "cuda" : "cpu",
                              "--algorithm", JOB[_i].name,
                              "--transport", "tcp",
                              "--launch",    JOB[_i].workers,
                              "--epochs",    "1",
                              "--batch",     "200",
                              "--hidden",    "6",
                              "--max-steps", "1",
                              "--period",    "4",
                              "--csv",       csv[k],
                              "--save",      folder[k],
                              NULL};
        const int status = program(folder[k], line);
        text[k] = content(folder[k], "said", &n[k]);
        ck_assert_msg(status == 0, "%s: status %d: %s", line[1], status, text[k]);
        free(text[k]);
        ck_assert_uint_eq(whole->products,
                          k ? 60 / (uint64_t)atoi(JOB[_i].workers) * (uint64_t)atoi(JOB[_i].workers) * 5 : 0);
        ck_assert(k ? whole->launches > 60 * launches_of(MODEL_MLP) + 20 : whole->launches == 0);
        text[k] = content(folder[k], "csv", &n[k]);
        strip(text[k], JOB[_i].bytes);
    }
    ck_assert_uint_gt(n[0], 1000);
    ck_assert_msg(strcmp(text[0], text[1]) == 0, "cpu:\n%s\ncuda:\n%s", text[0], text[1]);
    /* and what each has saved of itself: parameters and momentum, to the bit */
    for (int w = 0; w < atoi(JOB[_i].workers); w++) {
        char name[20];
        snprintf(name, sizeof name, "worker-%d", w);
        for (int k = 0; k < 2; k++) {
            free(text[k]);
            text[k] = content(folder[k], name, &n[k]);
        }
        ck_assert_uint_eq(n[0], n[1]);
        ck_assert_uint_gt(n[0], 2 * 4 * 784 * 6);
        ck_assert_msg(memcmp(text[0], text[1], n[0]) == 0, "%s has saved something else", name);
    }
    for (int k = 0; k < 2; k++) {
        free(text[k]);
        folder_remove(folder[k]);
    }
}
END_TEST

/* A worker that is killed, and comes again: to its GPU go the model and the momentum that another one tells it, or that
 * it has saved. */
static const char *const AGAIN[] = {"mean", "mgrawa", "hpsgd", "dsgd_aau"};
enum { AGAINS = sizeof AGAIN / sizeof *AGAIN };

START_TEST(a_process_comes_again) {
    char folder[40];
    size_t n;
    folder_make(folder);
    const char *line[] = {"--device", "cuda",     "--algorithm", AGAIN[_i], "--transport", "tcp",      "--launch",
                          "3",        "--epochs", "2",           "--batch", "100",         "--hidden", "6",
                          "--kill",   "1:0.2",    "--restart",   "1:0",     "--save",      folder,     NULL};
    const int status = program(folder, line);
    char *text = content(folder, "said", &n);
    ck_assert_msg(status == 0, "status %d: %s", status, text);
    ck_assert_msg(strstr(text, "lost: 1, came: 1") != NULL, "it did not come: %s", text);
    ck_assert_uint_gt(whole->products, 2 * 240 / 3 * 5);
    free(text);
    folder_remove(folder);
}
END_TEST

static const struct {
    const char *option[4], *says;
} REFUSED[] = {
    {{"--model", "cnn"}, "cnn is not there on a GPU; there are softmax and mlp"},
    {{"--algorithm", "mean,easgd"}, "easgd is not there on a GPU; there are single, mean, subspace, mgrawa, lgrawa"},
    {{"--algorithm", "qsaddle,adasum"}, "adasum is not there on a GPU"},
    {{"--demo"}, "--demo trains the cnn"},
    {{"--device", "gpu"}, "--device: expected cpu or cuda, got 'gpu'"},
};
enum { REFUSALS = sizeof REFUSED / sizeof *REFUSED };

START_TEST(what_is_not_there_is_refused) {
    char folder[40];
    size_t n;
    folder_make(folder);
    const char *line[] = {"--device", "cuda", REFUSED[_i].option[0], REFUSED[_i].option[1], NULL};
    const int status = program(folder, line);
    char *text = content(folder, "said", &n);
    ck_assert_msg(status == EXIT_BAD_INPUT && strstr(text, REFUSED[_i].says) && strchr(text, '\n') == text + n - 1,
                  "status %d: %s", status, text);
    free(text);
    folder_remove(folder);
}
END_TEST

static void program_begin(void) {
    whole = mmap(NULL, sizeof *whole, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(whole != MAP_FAILED);
}

static void program_end(void) {
    munmap(whole, sizeof *whole);
}

int main(void) {
    Suite *s = suite_create("layers");
    TCase *t = tcase_create("layers");
    tcase_set_timeout(t, 60);
    tcase_add_unchecked_fixture(t, make_images, free_images);
    tcase_add_loop_test(t, layers_and_optimisers_have_the_bits_of_the_processor, 0, SHAPES);
    suite_add_tcase(s, t);
    SRunner *runner = srunner_create(s);

    s = suite_create("programs");
    t = tcase_create("programs");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, program_begin, program_end);
    tcase_add_loop_test(t, processes_have_the_bits_of_the_processor, 0, JOBS);
    tcase_add_loop_test(t, a_process_comes_again, 0, AGAINS);
    tcase_add_loop_test(t, what_is_not_there_is_refused, 0, REFUSALS);
    suite_add_tcase(s, t);
    srunner_add_suite(runner, s);

    s = suite_create("threads");
    t = tcase_create("threads");
    tcase_set_timeout(t, 60);
    tcase_add_unchecked_fixture(t, make_images, free_images);
    tcase_add_loop_test(t, a_run_has_the_bits_of_the_processor, 0, RUNS);
    tcase_add_loop_test(t, a_free_run_learns, 0, FREES);
    suite_add_tcase(s, t);
    srunner_add_suite(runner, s);

    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
