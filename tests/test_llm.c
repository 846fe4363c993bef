/* SPDX-License-Identifier: MIT
 * The parts of examples/llm that compute and read: the transformer's gradients against finite differences, that it does
 * not look ahead; exp; the optimiser; texts good and bad, batches, windows, pairs, the program's own text; the command
 * line. */
#define _POSIX_C_SOURCE 200809L
#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "llm/exp.h"

/* All that follows computes in double precision, and with the C library's exp: the same source, but a difference of two
 * losses then tells a wrong gradient from a rounded one. */
#if defined __GNUC__ || defined __clang__
#pragma GCC diagnostic ignored "-Wdouble-promotion" /* 0.5f * x */
#endif
#ifdef __clang__
#pragma clang diagnostic ignored "-Wkeyword-macro"
#endif
static float (*const exp_in_float)(float) = llm_exp;
typedef float single;
#define llm_exp exp
#define float double
#include "train/nn.c"
#include "train/util.c"
#include "train/values.c"

#include "llm/adam.c"
#include "llm/model.c"
#include "llm/options.c"
#include "llm/story.c"
#include "llm/text.c"

/* That of train/gemm.c is made for floats; test_train_model has it. */
void gemm(size_t m, size_t n, size_t k, matrix a, matrix b, double *c, size_t c_row, bool accumulate) {
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = accumulate ? c[i * c_row + j] : 0.0;
            for (size_t p = 0; p < k; p++) sum += a.data[i * a.row + p * a.col] * b.data[p * b.row + j * b.col];
            c[i * c_row + j] = sum;
        }
}

/* ---- helpers ---- */

static double noise(rng *r) {
    return 2.0 * rng_uniform(r) - 1.0;
}

static void ck_near(double a, double b, double tolerance) {
    ck_assert_msg(fabs(a - b) <= tolerance, "%.12g and %.12g differ by more than %g", a, b, tolerance);
}

/* ---- the model ---- */

enum { LAYERS = 2, WIDTH = 12, HEADS = 3, CONTEXT = 9, SYMBOLS = 7, SEQUENCES = 3 };

typedef struct small {
    model m;
    workspace *s;
    double *params, *grads;
    uint8_t x[SEQUENCES * CONTEXT], y[SEQUENCES * CONTEXT];
} small;

/* No parameter is 0 or 1, so that none of them drops out of anything. */
static void small_make(small *a) {
    rng r = rng_make(5, 0, 0);
    model_make(&a->m, LAYERS, WIDTH, HEADS, CONTEXT, SYMBOLS);
    a->s = workspace_new(&a->m, SEQUENCES);
    a->params = new_floats(a->m.parameters);
    a->grads = new_floats(a->m.parameters);
    model_init(&a->m, a->params, 3);
    for (size_t i = 0; i < a->m.parameters; i++) a->params[i] += 0.2 * noise(&r);
    for (size_t i = 0; i < SEQUENCES * CONTEXT; i++) {
        a->x[i] = (uint8_t)rng_below(&r, SYMBOLS);
        a->y[i] = (uint8_t)rng_below(&r, SYMBOLS);
    }
}

static void small_free(small *a) {
    workspace_free(a->s);
    free(a->params);
    free(a->grads);
}

static double mean_loss(small *a, size_t length, double *grads) {
    return model_batch(&a->m, a->s, a->params, a->x, a->y, SEQUENCES, length, grads) / (double)(SEQUENCES * length);
}

/* Along the gradient, along random directions, and for some parameters alone the loss changes as the gradient says:
 * tensor by tensor. Whole contexts, and shorter sequences. */
START_TEST(gradients_are_those_of_the_loss) {
    const size_t length = _i ? CONTEXT - 3 : CONTEXT;
    const double e = 1e-5;
    small a;
    rng r = rng_make(9, 0, 0);
    small_make(&a);
    for (size_t i = 0; i < a.m.parameters; i++) a.grads[i] = 7.0; /* overwritten, not added to */
    const double loss = mean_loss(&a, length, a.grads);
    ck_assert(loss > 0.0 && mean_loss(&a, length, NULL) == loss);
    for (size_t t = 0; t < a.m.tensors; t++) {
        const size_t n = a.m.tensor[t].count;
        double *p = a.params + a.m.tensor[t].offset, *g = a.grads + a.m.tensor[t].offset;
        double *u = new_floats(n), *kept = new_floats(n), norm = 0.0;
        memcpy(kept, p, n * sizeof *p);
        for (size_t i = 0; i < n; i++) norm += g[i] * g[i];
        norm = sqrt(norm);
        ck_assert_msg(norm > 1e-4, "%s has no gradient", a.m.tensor[t].name);
        for (int trial = 0; trial < 16; trial++) {
            double expected = 0.0, square = 0.0, side[2];
            const size_t alone = rng_below(&r, (uint32_t)n);
            for (size_t i = 0; i < n; i++) {
                u[i] = trial == 0 ? g[i] : trial < 8 ? noise(&r) : (double)(i == alone);
                square += u[i] * u[i];
            }
            for (size_t i = 0; i < n; i++) expected += (u[i] /= sqrt(square)) * g[i];
            for (int sign = 0; sign < 2; sign++) {
                for (size_t i = 0; i < n; i++) p[i] = kept[i] + (sign ? -e : e) * u[i];
                side[sign] = mean_loss(&a, length, NULL);
            }
            memcpy(p, kept, n * sizeof *p);
            const double found = (side[0] - side[1]) / (2.0 * e);
            ck_assert_msg(fabs(found - expected) <= 1e-7 * norm + 1e-9, "%s: the gradient says %.12g, the loss %.12g",
                          a.m.tensor[t].name, expected, found);
        }
        free(u);
        free(kept);
    }
    small_free(&a);
}
END_TEST

/* A later character changes nothing before it, to the bit, and everything from it on; nor does a sequence know of the
 * one beside it, or of how long it will be. */
START_TEST(nobody_looks_ahead) {
    small a;
    double before[CONTEXT * SYMBOLS];
    small_make(&a);
    memcpy(before, model_predict(&a.m, a.s, a.params, a.x, CONTEXT), sizeof before);
    for (size_t at = 0; at < CONTEXT; at++) {
        const uint8_t kept = a.x[at];
        a.x[at] = (uint8_t)((kept + 1) % SYMBOLS);
        const double *after = model_predict(&a.m, a.s, a.params, a.x, CONTEXT);
        ck_assert_msg(memcmp(before, after, at * SYMBOLS * sizeof *after) == 0, "character %zu is seen before it", at);
        for (size_t i = at; i < CONTEXT; i++)
            ck_assert_msg(memcmp(before + i * SYMBOLS, after + i * SYMBOLS, SYMBOLS * sizeof *after) != 0,
                          "character %zu is not seen at %zu", at, i);
        a.x[at] = kept;
        after = model_predict(&a.m, a.s, a.params, a.x, at + 1);
        ck_assert(memcmp(before, after, (at + 1) * SYMBOLS * sizeof *after) == 0);
    }
    const double loss = mean_loss(&a, CONTEXT, NULL);
    double apart = 0.0;
    for (size_t i = 0; i < SEQUENCES; i++)
        apart += model_batch(&a.m, a.s, a.params, a.x + i * CONTEXT, a.y + i * CONTEXT, 1, CONTEXT, NULL);
    ck_near(apart / (SEQUENCES * CONTEXT), loss, 1e-13);
    small_free(&a);
}
END_TEST

START_TEST(it_begins_without_a_guess) {
    small a;
    small_make(&a);
    model_init(&a.m, a.params, 1);
    ck_near(mean_loss(&a, CONTEXT, a.grads), log(SYMBOLS), 0.25);
    double *other = new_floats(a.m.parameters);
    model_init(&a.m, other, 1);
    ck_assert(memcmp(other, a.params, a.m.parameters * sizeof *other) == 0);
    model_init(&a.m, other, 2);
    ck_assert(memcmp(other, a.params, a.m.parameters * sizeof *other) != 0);
    free(other);
    size_t end = 0; /* tensors lie one behind the other */
    for (size_t t = 0; t < a.m.tensors; t++) {
        ck_assert(a.m.tensor[t].offset == end);
        end += a.m.tensor[t].count;
    }
    ck_assert(end == a.m.parameters && a.m.tensors == 2 + 12 * LAYERS + 4);
    small_free(&a);
}
END_TEST

START_TEST(longer_than_the_context) {
    small a;
    small_make(&a);
    model_predict(&a.m, a.s, a.params, a.x, CONTEXT + 1);
}
END_TEST

START_TEST(exponential) {
    for (double x = -87.0; x <= 88.0; x += 0.0137) {
        const double exact = exp((double)(single)x);
        ck_near((double)exp_in_float((single)x) / exact, 1.0, 2e-7);
    }
    ck_assert(exp_in_float(0) == 1 && exp_in_float(-HUGE_VALF) < 2e-38 && isfinite(exp_in_float(HUGE_VALF)));
    ck_assert(exp_in_float(-HUGE_VALF) >= 0 && isnan(exp_in_float((single)NAN)));
}
END_TEST

/* ---- the optimiser ---- */

/* The first step is as long as the rate, whatever the gradient; then both means count. */
START_TEST(adam_by_hand) {
    double x[3] = {2.0, 0.0, 0.0}, g[3] = {-8.0, 1e-3, 0.0};
    adam a;
    adam_init(&a, 3, 0.25);
    adam_step(&a, x, g, 0.125);
    ck_near(x[0], 2.0 + 0.125 - 0.125 * 0.25 * 2.0, 1e-6);
    ck_near(x[1], -0.125, 1e-5);
    ck_assert(x[2] == 0.0);
    x[0] = 0.0;
    g[0] = 4.0;
    adam_step(&a, x, g, 0.125); /* first: -0.8 * 0.9 + 0.4; second: 0.64 * 0.99 + 0.16 */
    ck_near(x[0], 0.125 * (0.32 / (1.0 - 0.81)) / sqrt(0.7936 / (1.0 - 0.9801)), 1e-6);
    adam_free(&a);
}
END_TEST

START_TEST(long_gradients_are_made_shorter) {
    double g[2] = {3.0, -4.0};
    clip(2, g, 5.0);
    ck_assert(g[0] == 3.0 && g[1] == -4.0);
    clip(2, g, 1.0);
    ck_near(g[0], 0.6, 1e-12);
    ck_near(g[1], -0.8, 1e-12);
}
END_TEST

/* ---- texts ---- */

static char file[64];

static void make_file(void) {
    strcpy(file, "/tmp/llm-XXXXXX");
    const int f = mkstemp(file);
    ck_assert(f >= 0);
    close(f);
}

static void remove_file(void) {
    unlink(file);
}

static void write_file(const char *bytes, size_t n) {
    FILE *f = fopen(file, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert(fwrite(bytes, 1, n, f) == n);
    fclose(f);
}

START_TEST(characters_are_numbered) {
    text t;
    char *bytes = new_array(100000, 1); /* longer than what is read at a time */
    for (size_t i = 0; i < 100000; i++) bytes[i] = "z\377\0a\n"[i % 5];
    write_file(bytes, 100000);
    text_load(&t, file, 64);
    ck_assert(t.symbols == 5 && t.train_count == 90000 && t.validation_count == 10000);
    ck_assert(memcmp(t.symbol, "\0\naz\377", 5) == 0);
    for (size_t i = 0; i < 90000; i++) ck_assert(t.symbol[t.train[i]] == (unsigned char)bytes[i]);
    for (size_t i = 0; i < 10000; i++) ck_assert(t.symbol[t.validation[i]] == (unsigned char)bytes[90000 + i]);
    text other;
    bytes[77777] = 'a';
    text_make(&other, "", (const unsigned char *)bytes, 100000, 64);
    ck_assert(text_hash(&other) != text_hash(&t));
    text_free(&other);
    text_free(&t);
    free(bytes);
}
END_TEST

/* Just long enough; and all that is not is status 2. */
START_TEST(a_short_text) {
    text t;
    uint8_t x[64], y[64];
    unsigned char bytes[650];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)(i % 26 + 'a');
    text_make(&t, "", bytes, sizeof bytes, 64);
    ck_assert(t.validation_count == 65 && text_windows(&t, 64, 100) == 1);
    text_window(&t, 1, 0, 1, 64, x, y);
    ck_assert(memcmp(x, t.validation, 64) == 0 && memcmp(y, t.validation + 1, 64) == 0);
    text_free(&t);
}
END_TEST

START_TEST(bad_texts) {
    text t;
    char bytes[650];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (char)(i % 26 + 'a');
    write_file(bytes, sizeof bytes - 1);
    switch (_i) {
    case 0: break; /* one too short */
    case 1: write_file(bytes, 0); break;
    case 2: write_file(bytes, 1); break;
    case 3: /* one character only */
        memset(bytes, 'a', sizeof bytes);
        write_file(bytes, sizeof bytes);
        break;
    case 4: unlink(file); break;
    case 5: text_load(&t, "/tmp", 64); break; /* a folder */
    }
    text_load(&t, file, 64);
}
END_TEST

static void story_text(text *t, size_t count, size_t context) {
    unsigned char *bytes = new_array(count, 1);
    story_make(bytes, count, 1);
    text_make(t, "story", bytes, count, context);
    free(bytes);
}

START_TEST(batches_are_the_same_whoever_takes_them) {
    enum { N = 6, LENGTH = 16 };
    text t;
    uint8_t x[N * LENGTH], y[N * LENGTH], u[N * LENGTH], v[N * LENGTH], w[N * LENGTH];
    story_text(&t, 5000, LENGTH);
    for (uint64_t step = 0; step < 200; step++) {
        text_batch(&t, 1, step, 0, N, LENGTH, x, y);
        for (size_t share = 1; share <= 3; share++)
            for (size_t i = 0; i < N; i += share)
                text_batch(&t, 1, step, i, share, LENGTH, u + i * LENGTH, v + i * LENGTH);
        ck_assert(memcmp(x, u, sizeof x) == 0 && memcmp(y, v, sizeof y) == 0);
        for (size_t i = 0; i < N; i++) ck_assert(memcmp(x + i * LENGTH + 1, y + i * LENGTH, LENGTH - 1) == 0);
        text_batch(&t, 1, step + 1, 0, N, LENGTH, u, v);
        text_batch(&t, 2, step, 0, N, LENGTH, w, v);
        ck_assert(memcmp(x, u, sizeof x) != 0 && memcmp(x, w, sizeof x) != 0);
    }
    text_free(&t);
}
END_TEST

/* From anywhere in the training part, its ends among them, and never from the rest. */
START_TEST(batches_come_from_the_training_part) {
    enum { LENGTH = 4 };
    unsigned char bytes[200];
    bool seen[180] = {false};
    text t;
    uint8_t x[LENGTH], y[LENGTH];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)i;
    text_make(&t, "", bytes, sizeof bytes, LENGTH);
    ck_assert(t.train_count == 180);
    for (uint64_t step = 0; step < 5000; step++) {
        text_batch(&t, 1, step, 0, 1, LENGTH, x, y);
        ck_assert(x[0] + LENGTH < 180);
        for (int i = 0; i < LENGTH; i++) {
            ck_assert(x[i] == x[0] + i && y[i] == x[i] + 1);
            seen[y[i]] = seen[x[i]] = true;
        }
    }
    for (int i = 0; i < 180; i++) ck_assert(seen[i]);
    text_free(&t);
}
END_TEST

START_TEST(windows_lie_beside_each_other) {
    enum { LENGTH = 10 };
    text t;
    uint8_t x[30 * LENGTH], y[30 * LENGTH], z[LENGTH], u[LENGTH];
    unsigned char bytes[2510];
    for (size_t i = 0; i < 2510; i++) bytes[i] = (unsigned char)(i < 2259 ? 0 : i - 2259);
    text_make(&t, "", bytes, sizeof bytes, LENGTH); /* validation: 0 .. 250 */
    ck_assert(t.validation_count == 251 && text_windows(&t, LENGTH, 100) == 25 && text_windows(&t, LENGTH, 7) == 7);
    text_window(&t, 25, 0, 25, LENGTH, x, y);
    for (int i = 0; i < 250; i++) ck_assert(t.symbol[x[i]] == i && t.symbol[y[i]] == i + 1);
    text_window(&t, 7, 0, 7, LENGTH, x, y); /* spread out: the last of seven is in the last seventh */
    for (int i = 1; i < 7; i++) ck_assert(x[i * LENGTH] >= x[(i - 1) * LENGTH] + LENGTH);
    ck_assert(t.symbol[x[0]] == 0 && t.symbol[x[6 * LENGTH]] >= 210);
    for (size_t i = 0; i < 7; i++) {
        text_window(&t, 7, i, 1, LENGTH, z, u);
        ck_assert(memcmp(z, x + i * LENGTH, LENGTH) == 0 && memcmp(u, y + i * LENGTH, LENGTH) == 0);
    }
    text_free(&t);
}
END_TEST

START_TEST(pairs_by_hand) {
    text t;
    text_make(&t, "", (const unsigned char *)"abababababababababababababababababababab", 40, 3);
    ck_near(text_pairs(&t), -(2.0 * log(19.0 / 20.0) + log(18.0 / 19.0)) / 3.0, 1e-12); /* 18 ab, 17 ba */
    text_free(&t);
}
END_TEST

/* ---- the program's own text ---- */

START_TEST(stories_are_a_function_of_the_seed) {
    unsigned char a[3000], b[3000];
    memset(b, 0, sizeof b);
    story_make(a, 3000, 1);
    for (size_t n = 0; n <= 3000; n += 77) {
        story_make(b, n, 1);
        ck_assert(memcmp(a, b, n) == 0 && (n >= 3000 || b[n] == 0));
    }
    story_make(b, 3000, 2);
    ck_assert(memcmp(a, b, 3000) != 0);
}
END_TEST

static int number_of(const char *word) {
    for (int i = 0; i < (int)COUNT(NUMBER); i++)
        if (strcmp(word, NUMBER[i]) == 0) return i;
    return -1;
}

/* Whatever a sentence says twice it says alike, verbs agree, sums are right; there are all kinds of them. */
START_TEST(stories_make_sense) {
    enum { N = 200000 };
    char *bytes = new_array(N + 1, 1);
    unsigned kind[3] = {0}, many[2] = {0};
    story_make((unsigned char *)bytes, N, 3);
    char *line = bytes, *end;
    for (; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        char w[17][16];
        *end = 0;
        const int n = sscanf(
            line, "%15s %15s %15s %15s %15s %15s %15s %15s %15s %15s %15s %15s %15s %15s %15s %15s %15s", w[0], w[1],
            w[2], w[3], w[4], w[5], w[6], w[7], w[8], w[9], w[10], w[11], w[12], w[13], w[14], w[15], w[16]);
        if (n == 16) { /* otis gave the red lamp to nora. now nora has the red lamp and thanks otis. */
            w[6][strlen(w[6]) - 1] = 0;
            ck_assert_msg(!strcmp(w[6], w[8]) && !strcmp(w[3], w[11]) && !strcmp(w[4], w[12]) &&
                              !strncmp(w[0], w[15], strlen(w[0])) && strcmp(w[0], w[6]) != 0,
                          "%s", line);
            kind[0]++;
        } else if (n == 6) { /* the dogs near the tree sleep. */
            const bool several = w[1][strlen(w[1]) - 1] == 's';
            w[5][strlen(w[5]) - 1] = 0;
            ck_assert_msg(several == (w[5][strlen(w[5]) - 1] != 's'), "%s", line);
            many[several]++;
            kind[1]++;
        } else { /* two dogs and four dogs are six dogs. */
            ck_assert_int_eq(n, 8);
            ck_assert_msg(number_of(w[0]) > 1 && number_of(w[0]) + number_of(w[3]) == number_of(w[6]), "%s", line);
            kind[2]++;
        }
    }
    ck_assert(kind[0] > 1000 && kind[1] > 1000 && kind[2] > 1000 && many[0] > 500 && many[1] > 500);
    free(bytes);
}
END_TEST

/* ---- the command line ---- */

START_TEST(options_are_read) {
    options o;
    char *none[] = {"llm"};
    options_parse(&o, 1, none);
    ck_assert(o.workers == 2 && o.launch && !o.peers && o.run[RULE_SINGLE] && o.run[RULE_HPSGD] && o.every == 30);
    const uint64_t hash = options_hash(&o);
    char *line[] = {"llm",
                    "--peers",
                    "127.0.0.1:7000,127.0.0.1:7001,127.0.0.1:7002",
                    "--rank",
                    "2",
                    "--batch",
                    "33",
                    "--algorithm",
                    "mean,single",
                    "--seed",
                    "7"};
    options_parse(&o, sizeof line / sizeof *line, line);
    ck_assert(o.workers == 3 && o.rank == 2 && !o.launch && o.run[RULE_MEAN] && !o.run[RULE_SUBSPACE]);
    ck_assert(options_hash(&o) != hash && strcmp(o.peers, line[2]) == 0);
    const uint64_t mine = options_hash(&o);
    o.rank = 0; /* may differ, and where the results go */
    o.svg = "x";
    ck_assert(options_hash(&o) == mine);
    free(o.peers);
    char *alone[] = {"llm", "--algorithm", "single"};
    options_parse(&o, 3, alone);
    ck_assert(!o.launch);
}
END_TEST

/* clang-format off */
static const char *const BAD_LINE[][6] = {
    {"--workers", "0"}, {"--workers", "65"}, {"--workers"}, {"--algorithm", "grawa"}, {"--algorithm", "mean,"},
    {"--steps", "0"}, {"--batch", "33"}, {"--lr", "nan"}, {"--lr", "0"}, {"--width", "62"}, {"--heads", "0"},
    {"--context", "0"}, {"--layers", "17"}, {"--seed", "-1"}, {"--frobnicate", "1"}, {"stray"}, {"stray", "1"},
    {"--beta", "1.5"}, {"--subspace-momentum", "1"}, {"--phase", "0"}, {"--csv", "/nonexistent/x"}, {"--every", "0"},
    {"--rank", "0"}, {"--peers", "127.0.0.1:7000"}, {"--peers", "127.0.0.1:7000", "--rank", "1"},
    {"--peers", "127.0.0.1:7000", "--rank", "0", "--workers"}, {"--tls", "/tmp"}, {"--plaintext-on-any-network"},
};
/* clang-format on */

START_TEST(bad_options) {
    char line[7][40] = {"llm"}, *argv[7] = {line[0]};
    int argc = 1;
    options o;
    for (; argc < 7 && BAD_LINE[_i][argc - 1]; argc++) {
        strcpy(line[argc], BAD_LINE[_i][argc - 1]);
        argv[argc] = line[argc];
    }
    options_parse(&o, argc, argv);
}
END_TEST

int main(void) {
    Suite *s = suite_create("model");
    TCase *t = tcase_create("model");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, gradients_are_those_of_the_loss, 0, 2);
    tcase_add_test(t, nobody_looks_ahead);
    tcase_add_test(t, it_begins_without_a_guess);
    tcase_add_exit_test(t, longer_than_the_context, EXIT_FAILURE);
    tcase_add_test(t, exponential);
    tcase_add_test(t, adam_by_hand);
    tcase_add_test(t, long_gradients_are_made_shorter);
    suite_add_tcase(s, t);
    SRunner *runner = srunner_create(s);

    s = suite_create("text");
    t = tcase_create("files");
    tcase_add_unchecked_fixture(t, make_file, remove_file);
    tcase_add_test(t, characters_are_numbered);
    tcase_add_test(t, a_short_text);
    tcase_add_loop_exit_test(t, bad_texts, EXIT_BAD_INPUT, 0, 6);
    suite_add_tcase(s, t);
    t = tcase_create("samples");
    tcase_add_test(t, batches_are_the_same_whoever_takes_them);
    tcase_add_test(t, batches_come_from_the_training_part);
    tcase_add_test(t, windows_lie_beside_each_other);
    tcase_add_test(t, pairs_by_hand);
    tcase_add_test(t, stories_are_a_function_of_the_seed);
    tcase_add_test(t, stories_make_sense);
    suite_add_tcase(s, t);
    srunner_add_suite(runner, s);

    s = suite_create("options");
    t = tcase_create("options");
    tcase_add_test(t, options_are_read);
    tcase_add_loop_exit_test(t, bad_options, EXIT_BAD_INPUT, 0, sizeof BAD_LINE / sizeof *BAD_LINE);
    suite_add_tcase(s, t);
    srunner_add_suite(runner, s);

    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
