/* SPDX-License-Identifier: MIT
 * The parts of examples/train that compute and read: the matrix product, layers and models (against finite
 * differences), the optimiser, data files good and bad, shares, glyphs, the command line. */
#define _POSIX_C_SOURCE 200809L
#include "train/data.c"
#include "train/gemm.c"
#include "train/glyphs.c"
#include "train/model.c"
#include "train/nn.c"
#include "train/optim.c"
#include "train/options.c"
#include "train/util.c"
#include "train/values.c"

#include <check.h>
#include <sys/stat.h>

/* ---- helpers ---- */

static float noise(rng *r) {
    return (float)(2.0 * rng_uniform(r) - 1.0);
}

static float *noises(rng *r, size_t n) {
    float *p = new_floats(n);
    for (size_t i = 0; i < n; i++) p[i] = noise(r);
    return p;
}

static void ck_near(double a, double b, double tolerance) {
    ck_assert_msg(fabs(a - b) <= tolerance, "%.9g and %.9g differ by more than %g", a, b, tolerance);
}

/* ---- the matrix product ---- */

static void compare_product(size_t m, size_t n, size_t k, int a_turned, int b_turned, int add) {
    rng r = rng_make(m * 1000003 + n * 1009 + k, 0, (uint64_t)(a_turned + 2 * b_turned + 4 * add));
    float *a = noises(&r, m * k), *b = noises(&r, k * n), *c = noises(&r, m * (n + 3)), *old = new_floats(m * (n + 3));
    matrix ma = a_turned ? matrix_transposed(a, m) : matrix_of(a, k);
    matrix mb = b_turned ? matrix_transposed(b, k) : matrix_of(b, n);
    memcpy(old, c, m * (n + 3) * sizeof *c);
    gemm(m, n, k, ma, mb, c, n + 3, add != 0);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n + 3; j++) {
            double sum = add ? (double)old[i * (n + 3) + j] : 0.0;
            if (j >= n) { /* between the rows: not to be touched */
                ck_assert(c[i * (n + 3) + j] == old[i * (n + 3) + j]);
                continue;
            }
            for (size_t p = 0; p < k; p++)
                sum += (double)a[i * ma.row + p * ma.col] * (double)b[p * mb.row + j * mb.col];
            ck_near((double)c[i * (n + 3) + j], sum, 1e-5 * sqrt((double)k + 1.0));
        }
    free(a);
    free(b);
    free(c);
    free(old);
}

START_TEST(product_of_any_shape) {
    static const size_t side[] = {1, 3, 4, 7, 8, 9, 31, 32, 33, 70};
    const size_t sides = sizeof side / sizeof *side;
    for (size_t i = 0; i < sides; i++)
        for (size_t j = 0; j < sides; j++)
            for (size_t k = 0; k < sides; k += 3)
                compare_product(side[i], side[j], side[k], _i & 1, _i >> 1 & 1, _i >> 2 & 1);
    compare_product(9, 37, 255, _i & 1, _i >> 1 & 1, _i >> 2 & 1);
    compare_product(9, 37, 256, _i & 1, _i >> 1 & 1, _i >> 2 & 1);
    compare_product(9, 37, 700, _i & 1, _i >> 1 & 1, _i >> 2 & 1);
    compare_product(3, 5, 0, _i & 1, _i >> 1 & 1, _i >> 2 & 1);
}
END_TEST

/* ---- layers and models ---- */

START_TEST(convolution_by_its_definition) {
    enum { IN = 3, OUT = 5, H = 6, W = 10 };
    rng r = rng_make(2, 0, 0);
    float *x = noises(&r, IN * H * W), *weight = noises(&r, OUT * IN * 9), *bias = noises(&r, OUT);
    float *y = new_floats(OUT * H * W), *columns = new_floats(IN * 9 * H * W);
    conv_forward(IN, OUT, H, W, x, weight, bias, y, columns);
    for (int c = 0; c < OUT; c++)
        for (int i = 0; i < H; i++)
            for (int j = 0; j < W; j++) {
                double sum = (double)bias[c];
                for (int d = 0; d < IN; d++)
                    for (int ky = 0; ky < 3; ky++)
                        for (int kx = 0; kx < 3; kx++) {
                            int u = i + ky - 1, v = j + kx - 1;
                            if (u < 0 || u >= H || v < 0 || v >= W) continue;
                            sum += (double)weight[((c * IN + d) * 3 + ky) * 3 + kx] * (double)x[(d * H + u) * W + v];
                        }
                ck_near((double)y[(c * H + i) * W + j], sum, 1e-5);
            }
    free(x);
    free(weight);
    free(bias);
    free(y);
    free(columns);
}
END_TEST

START_TEST(pooling_takes_the_largest) {
    const float x[] = {1, 2, 5, 5, /**/ 4, 3, 5, 5, /**/ -1, -2, 0, 9, /**/ -3, -4, 9, 0};
    float y[4], dx[16], dy[] = {10, 20, 30, 40};
    uint8_t which[4];
    pool_forward(1, 4, 4, x, y, which);
    ck_assert(y[0] == 4 && y[1] == 5 && y[2] == -1 && y[3] == 9);
    ck_assert(which[0] == 2 && which[1] == 0 && which[2] == 0 && which[3] == 1); /* the first of equals */
    pool_backward(1, 4, 4, dy, which, dx);
    for (int i = 0; i < 16; i++)
        ck_assert(dx[i] == (i == 4 ? 10.0f : i == 2 ? 20.0f : i == 8 ? 30.0f : i == 11 ? 40.0f : 0.0f));
}
END_TEST

START_TEST(exponential) {
    for (double x = 0.0; x > -60.0; x -= 0.0371) ck_near(exp_negative(x) / exp(x), 1.0, 1e-14);
    ck_assert(exp_negative(0.0) == 1.0 && exp_negative(-1e9) == 0.0 && exp_negative((double)NAN) == 0.0);
}
END_TEST

static dataset small_images(size_t side, size_t channels) {
    dataset d;
    memset(&d, 0, sizeof d);
    d.width = d.height = side;
    d.channels = channels;
    d.features = side * side * channels;
    d.classes = 10;
    return d;
}

/* Along the gradient, and along random directions, the loss changes as the gradient says; tensor by tensor. */
START_TEST(gradients_are_those_of_the_loss) {
    enum { BATCH = 6 };
    dataset d = small_images(8, _i % 2 ? 3 : 1);
    model m;
    rng r = rng_make(77, 0, (uint64_t)_i);
    uint8_t y[BATCH];
    size_t right = 0;
    model_make(&m, (model_kind)(_i / 2), 12, &d);
    tensor_list p = tensors_new(&m), g = tensors_new(&m), g0 = tensors_new(&m);
    workspace *s = workspace_new(&m, BATCH);
    float *x = noises(&r, BATCH * m.features);
    for (int i = 0; i < BATCH; i++) y[i] = (uint8_t)rng_below(&r, 10);
    model_init(&m, &p, 5);
    for (size_t t = 0; t < m.tensors; t++) /* biases, too, away from zero */
        for (size_t i = 0; i < m.tensor[t].count; i++) p.tensor[t][i] += 0.05f * noise(&r);
    double loss = model_batch(&m, s, &p, x, y, BATCH, &g, &right) / BATCH;
    ck_assert(loss > 0.0 && right <= BATCH);
    ck_near(model_batch(&m, s, &p, x, y, BATCH, NULL, &right) / BATCH, loss, 0.0);

    for (size_t t = 0; t < m.tensors; t++) {
        const size_t n = m.tensor[t].count;
        double norm = 0.0;
        for (size_t i = 0; i < n; i++) norm += (double)g.tensor[t][i] * (double)g.tensor[t][i];
        norm = sqrt(norm);
        ck_assert_msg(norm > 0.0, "tensor %s has no gradient", m.tensor[t].name);
        float *u = new_floats(n), *kept = new_floats(n);
        memcpy(kept, p.tensor[t], n * sizeof *kept);
        for (int trial = 0; trial < 4; trial++) {
            double expected = 0.0, length = 0.0, side[2];
            const double e = 5e-4;
            for (size_t i = 0; i < n; i++) {
                u[i] = trial == 0 ? g.tensor[t][i] : noise(&r);
                length += (double)u[i] * (double)u[i];
            }
            for (size_t i = 0; i < n; i++) {
                u[i] = (float)((double)u[i] / sqrt(length));
                expected += (double)u[i] * (double)g.tensor[t][i];
            }
            for (int sign = 0; sign < 2; sign++) {
                for (size_t i = 0; i < n; i++) p.tensor[t][i] = kept[i] + (float)(sign ? -e : e) * u[i];
                side[sign] = model_batch(&m, s, &p, x, y, BATCH, &g0, &right) / BATCH;
            }
            memcpy(p.tensor[t], kept, n * sizeof *kept);
            ck_near((side[0] - side[1]) / (2.0 * e), expected, 0.02 * norm + 1e-3);
        }
        free(u);
        free(kept);
    }
    free(x);
    workspace_free(s);
    tensors_free(&m, &p);
    tensors_free(&m, &g);
    tensors_free(&m, &g0);
}
END_TEST

START_TEST(optimiser_by_hand) {
    dataset d = small_images(4, 1);
    model m;
    sgd o;
    model_make(&m, MODEL_SOFTMAX, 0, &d);
    tensor_list p = tensors_new(&m), g = tensors_new(&m);
    sgd_init(&o, &m, 0.5f, 0.25f, _i == 1);
    p.tensor[0][3] = 2.0f;
    g.tensor[0][3] = 1.0f;
    sgd_step(&o, &m, &p, &g, 0.125f); /* d = 1.5, v = 1.5; Nesterov: 1.5 + 0.75 */
    ck_assert(p.tensor[0][3] == (_i ? 2.0f - 0.125f * 2.25f : 2.0f - 0.125f * 1.5f));
    p.tensor[0][3] = 0.0f;
    sgd_step(&o, &m, &p, &g, 0.125f); /* d = 1, v = 1.75; Nesterov: 1 + 0.875 */
    ck_assert(p.tensor[0][3] == (_i ? -0.125f * 1.875f : -0.125f * 1.75f));
    ck_assert(p.tensor[0][2] == 0.0f && p.tensor[1][0] == 0.0f);
    sgd_free(&o, &m);
    tensors_free(&m, &p);
    tensors_free(&m, &g);
}
END_TEST

/* Whatever the gradient's size, the first step is `rate` long; then it follows the two means. */
START_TEST(adam_by_hand) {
    dataset d = small_images(4, 1);
    model m;
    adam o;
    model_make(&m, MODEL_SOFTMAX, 0, &d);
    tensor_list p = tensors_new(&m), g = tensors_new(&m);
    adam_init(&o, &m, 0.5f, 0.75f, 0.25f);
    p.tensor[0][3] = 2.0f;
    g.tensor[0][3] = -8.0f;
    g.tensor[1][0] = 1e-3f;
    adam_step(&o, &m, &p, &g, 0.125f);
    ck_near((double)p.tensor[0][3], 2.0 + 0.125 - 0.125 * 0.25 * 2.0, 1e-6);
    ck_near((double)p.tensor[1][0], -0.125, 1e-5);
    p.tensor[0][3] = 0.0f;
    g.tensor[0][3] = 4.0f;
    adam_step(&o, &m, &p, &g, 0.125f); /* first = -4 / 2 + 4 / 2; second = 3/4 * 16 + 1/4 * 16 */
    ck_near((double)p.tensor[0][3], 0.0, 1e-6);
    adam_step(&o, &m, &p, &g, 0.125f); /* first = 2, second = 3/4 * 16 + 4 */
    ck_near((double)p.tensor[0][3], -0.125 * 2.0 / (1.0 - 0.125) / sqrt(16.0 / (1.0 - 27.0 / 64.0)), 1e-6);
    ck_assert(p.tensor[0][2] == 0.0f);
    adam_free(&o, &m);
    tensors_free(&m, &p);
    tensors_free(&m, &g);
}
END_TEST

/* ---- files ---- */

static char folder[64];

static void write_file(const char *name, const unsigned char *bytes, size_t n) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert(fwrite(bytes, 1, n, f) == n);
    fclose(f);
}

static void remove_file(const char *name) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    unlink(path);
}

/* IDX: `n` images of 4 x 3 and their labels. */
static size_t idx_images(unsigned char *out, unsigned n) {
    const unsigned char head[16] = {0, 0, 8, 3, 0, 0, 0, (unsigned char)n, 0, 0, 0, 4, 0, 0, 0, 3};
    memcpy(out, head, 16);
    for (unsigned i = 0; i < n * 12; i++) out[16 + i] = (unsigned char)(i * 7);
    return 16 + n * 12;
}

static size_t idx_labels(unsigned char *out, unsigned n) {
    const unsigned char head[8] = {0, 0, 8, 1, 0, 0, 0, (unsigned char)n};
    memcpy(out, head, 8);
    for (unsigned i = 0; i < n; i++) out[8 + i] = (unsigned char)(i % 10);
    return 8 + n;
}

/* One for all tests, in the parent's hands: a test that ends by exit() cleans nothing up. Each fills it anew. */
static void make_folder(void) {
    strcpy(folder, "/tmp/train-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void empty_folder(void) {
    static const char *const name[] = {
        "train-images-idx3-ubyte",   "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte",
        "t10k-labels-idx1-ubyte.gz", "data_batch_1.bin",        "data_batch_3.bin",       "test_batch.bin"};
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) remove_file(name[i]);
}

static void remove_folder(void) {
    empty_folder();
    rmdir(folder);
}

static void fill_folder(void) {
    unsigned char b[1024];
    empty_folder();
    write_file("train-images-idx3-ubyte", b, idx_images(b, 20));
    write_file("train-labels-idx1-ubyte", b, idx_labels(b, 20));
    write_file("t10k-images-idx3-ubyte", b, idx_images(b, 10));
    write_file("t10k-labels-idx1-ubyte", b, idx_labels(b, 10));
}

START_TEST(idx_files) {
    dataset d;
    float x[12];
    uint8_t y;
    const uint32_t index = 2;
    double mean = 0.0, square = 0.0;
    fill_folder();
    dataset_load(&d, folder);
    ck_assert(d.train.count == 20 && d.test.count == 10 && d.height == 4 && d.width == 3 && d.channels == 1);
    ck_assert(d.features == 12 && d.classes == 10);
    ck_assert(strncmp(d.name, "train-", 6) == 0);
    ck_assert(d.train.pixel[25] == (unsigned char)(25 * 7) && d.test.label[9] == 9);
    for (uint32_t i = 0; i < 20; i++) {
        dataset_gather(&d, &d.train, &i, 1, x, &y);
        for (int j = 0; j < 12; j++) {
            mean += (double)x[j] / 240.0;
            square += (double)x[j] * (double)x[j] / 240.0;
        }
    }
    ck_near(mean, 0.0, 1e-5);
    ck_near(square, 1.0, 1e-5);
    dataset_gather(&d, &d.train, &index, 1, x, &y);
    ck_assert(y == 2);
    dataset_free(&d);
}
END_TEST

START_TEST(cifar_files) {
    dataset d;
    unsigned char *b = new_array(3 * CIFAR_RECORD, 1);
    empty_folder();
    for (size_t i = 0; i < 3 * CIFAR_RECORD; i++)
        b[i] = (unsigned char)(i % CIFAR_RECORD == 0 ? i / CIFAR_RECORD + 4 : i % 251);
    write_file("data_batch_1.bin", b, 3 * CIFAR_RECORD);
    write_file("data_batch_3.bin", b, 2 * CIFAR_RECORD);
    write_file("test_batch.bin", b, CIFAR_RECORD);
    dataset_load(&d, folder);
    ck_assert(d.train.count == 5 && d.test.count == 1 && d.features == 3072 && d.channels == 3 && d.width == 32);
    ck_assert(d.train.label[2] == 6 && d.train.label[4] == 5);
    ck_assert(d.train.pixel[4 * CIFAR_PIXELS + 9] == b[CIFAR_RECORD + 10]);
    dataset_free(&d);
    free(b);
}
END_TEST

/* Every way of being wrong is status 2. Which one: the loop variable. */
START_TEST(bad_files) {
    unsigned char b[CIFAR_RECORD + 1024];
    dataset d;
    size_t n = idx_images(b, 20);
    fill_folder();
    /* clang-format off */
    switch (_i) {
    case 0: write_file("train-images-idx3-ubyte", b, n - 1); break;  /* truncated */
    case 1: write_file("train-images-idx3-ubyte", b, n + 1); break;  /* too long */
    case 2: write_file("train-images-idx3-ubyte", b, 15); break;     /* not even a header */
    case 3: write_file("train-images-idx3-ubyte", b, 0); break;      /* empty */
    case 4: b[3] = 1; write_file("train-images-idx3-ubyte", b, n); break; /* magic */
    case 5: b[4] = 0xff; write_file("train-images-idx3-ubyte", b, n); break; /* a count that overflows */
    case 6: b[7] = 0; write_file("train-images-idx3-ubyte", b, 16); break; /* no images */
    case 7: b[8] = 1; write_file("train-images-idx3-ubyte", b, n); break; /* images of 16 million lines */
    case 8: n = idx_images(b, 10); b[11] = 3; b[15] = 4; write_file("t10k-images-idx3-ubyte", b, n); break; /* 3 x 4 */
    case 9: n = idx_labels(b, 19); write_file("train-labels-idx1-ubyte", b, n); break; /* fewer labels */
    case 10: n = idx_labels(b, 20); b[20] = 10; write_file("train-labels-idx1-ubyte", b, n); break; /* class 10 */
    case 11: remove_file("t10k-labels-idx1-ubyte"); break;           /* missing */
    case 12: remove_file("train-images-idx3-ubyte"); break;          /* no data set at all */
    case 13: /* not gzip, or no zlib */
        remove_file("t10k-labels-idx1-ubyte");
        write_file("t10k-labels-idx1-ubyte.gz", (const unsigned char *)"\037\213\010garbage", 10);
        break;
    case 14: /* CIFAR: half a record */
        memset(b, 0, sizeof b);
        remove_file("train-images-idx3-ubyte");
        write_file("data_batch_1.bin", b, CIFAR_RECORD + 9);
        break;
    default: /* CIFAR: a label out of range */
        memset(b, 0, sizeof b);
        b[0] = 200;
        remove_file("train-images-idx3-ubyte");
        write_file("data_batch_1.bin", b, CIFAR_RECORD);
        break;
    }
    /* clang-format on */
    dataset_load(&d, folder);
}
END_TEST

/* ---- shares and samplers ---- */

static dataset labels_only(size_t n) {
    dataset d = small_images(1, 1);
    rng r = rng_make(9, 0, 0);
    d.train.count = n;
    d.train.label = new_array(n, 1);
    for (size_t i = 0; i < n; i++) d.train.label[i] = (uint8_t)rng_below(&r, 10);
    return d;
}

/* Each image belongs to exactly one worker, everybody has some, and the same seed gives the same shares. */
START_TEST(shares_are_a_partition) {
    static const double alpha[] = {1e-3, 0.1, 1.0, 1000.0};
    enum { N = 3000, WORKERS = 7 };
    dataset d = labels_only(N);
    partition p, q;
    int seen[N] = {0};
    size_t total = 0;
    partition_make(&p, &d, WORKERS, alpha[_i], 4);
    partition_make(&q, &d, WORKERS, alpha[_i], 4);
    for (size_t w = 0; w < WORKERS; w++) {
        ck_assert(p.count[w] > 0 && p.count[w] == q.count[w]);
        ck_assert(memcmp(p.index[w], q.index[w], p.count[w] * sizeof **p.index) == 0);
        total += p.count[w];
        for (size_t i = 0; i < p.count[w]; i++) seen[p.index[w][i]]++;
    }
    ck_assert(total == N);
    for (size_t i = 0; i < N; i++) ck_assert(seen[i] == 1);
    partition_free(&p);
    partition_free(&q);
    free(d.train.label);
}
END_TEST

/* The largest share that one worker has of one class: near 1/workers for a large alpha, near 1 for a small one. */
static double one_sidedness(double alpha) {
    enum { N = 4000, WORKERS = 4 };
    dataset d = labels_only(N);
    partition p;
    double sum = 0.0;
    partition_make(&p, &d, WORKERS, alpha, 1);
    for (int c = 0; c < 10; c++) {
        size_t most = 0, all = 0;
        for (size_t w = 0; w < WORKERS; w++) {
            size_t mine = 0;
            for (size_t i = 0; i < p.count[w]; i++) mine += d.train.label[p.index[w][i]] == c;
            if (mine > most) most = mine;
            all += mine;
        }
        sum += (double)most / (double)all;
    }
    partition_free(&p);
    free(d.train.label);
    return sum / 10.0;
}

START_TEST(alpha_makes_shares_unequal) {
    ck_assert(one_sidedness(0.02) > 0.9);
    ck_assert(one_sidedness(0.5) > 0.45);
    ck_assert(one_sidedness(10000.0) < 0.3);
}
END_TEST

/* Together the workers see every image once an epoch, in another order each time; alike only where they should be. */
START_TEST(samplers_deal_out_epochs) {
    enum { N = 1000, WORKERS = 4 };
    dataset d = labels_only(N);
    partition p;
    sampler s[WORKERS];
    uint32_t got[N / WORKERS], first[N / WORKERS];
    partition_make(&p, &d, WORKERS, 0.0, 3);
    for (size_t w = 0; w < WORKERS; w++) sampler_init(&s[w], &p, w, &d, 3);
    for (int epoch = 0; epoch < 3; epoch++) {
        int seen[N] = {0};
        for (size_t w = 0; w < WORKERS; w++) {
            sampler_next(&s[w], 100, got); /* in unequal pieces */
            sampler_next(&s[w], 150, got + 100);
            for (size_t i = 0; i < N / WORKERS; i++) seen[got[i]]++;
            if (w == 0 && epoch > 0) ck_assert(memcmp(got, first, sizeof got) != 0);
            if (w == 0) memcpy(first, got, sizeof got);
        }
        for (size_t i = 0; i < N; i++) ck_assert(seen[i] == 1);
    }
    for (size_t w = 0; w < WORKERS; w++) sampler_free(&s[w]);
    partition_free(&p);
    free(d.train.label);
}
END_TEST

START_TEST(more_workers_than_images) {
    dataset d = labels_only(3);
    partition p;
    partition_make(&p, &d, 4, 0.0, 1);
}
END_TEST

/* ---- glyphs ---- */

/* The same bytes on every machine and with every compiler. */
START_TEST(glyphs_are_the_same_everywhere) {
    dataset d;
    uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    glyphs_make(&d, 150, 50, 1);
    for (size_t i = 0; i < 150 * 784; i++) h = (h ^ d.train.pixel[i]) * UINT64_C(0x100000001b3);
    for (size_t i = 0; i < 150; i++) h = (h ^ d.train.label[i]) * UINT64_C(0x100000001b3);
    for (size_t i = 0; i < 50 * 784; i++) h = (h ^ d.test.pixel[i]) * UINT64_C(0x100000001b3);
    ck_assert_msg(h == UINT64_C(0xdcb59f6883efa65a), "the glyphs' hash is 0x%016llx", (unsigned long long)h);
    dataset_free(&d);
}
END_TEST

/* Hard enough to tell algorithms apart, easy enough to learn. */
START_TEST(glyphs_can_be_learnt_and_do_not_saturate) {
    enum { BATCH = 32, PIECE = 100 };
    dataset d;
    model m;
    sgd o;
    partition all;
    sampler order;
    size_t right = 0;
    uint8_t y[PIECE];
    uint32_t index[PIECE];
    glyphs_make(&d, 12000, 1000, 1);
    model_make(&m, MODEL_MLP, 128, &d);
    tensor_list p = tensors_new(&m), g = tensors_new(&m);
    workspace *s = workspace_new(&m, PIECE);
    float *x = new_floats(PIECE * d.features);
    model_init(&m, &p, 1);
    sgd_init(&o, &m, 0.9f, 1e-4f, false);
    partition_make(&all, &d, 1, 0.0, 1);
    sampler_init(&order, &all, 0, &d, 1);
    for (size_t step = 0, steps = 2 * 12000 / BATCH; step < steps; step++) {
        sampler_next(&order, BATCH, index);
        dataset_gather(&d, &d.train, index, BATCH, x, y);
        model_batch(&m, s, &p, x, y, BATCH, &g, &right);
        sgd_step(&o, &m, &p, &g, 0.02f * (1.0f - (float)step / (float)steps));
    }
    right = 0;
    for (uint32_t i = 0; i < 1000; i += PIECE) {
        for (uint32_t j = 0; j < PIECE; j++) index[j] = i + j;
        dataset_gather(&d, &d.test, index, PIECE, x, y);
        model_batch(&m, s, &p, x, y, PIECE, NULL, &right);
    }
    ck_assert_msg(right > 800 && right < 970, "%zu of 1000", right);
    sampler_free(&order);
    partition_free(&all);
    sgd_free(&o, &m);
    tensors_free(&m, &p);
    tensors_free(&m, &g);
    workspace_free(s);
    free(x);
    dataset_free(&d);
}
END_TEST

/* ---- the command line ---- */

START_TEST(options_are_read) {
    char *line[] = {"train",     "--data", "x",    "--algorithm", "mean,lgrawa", "--model", "cnn",
                    "--workers", "7",      "--lr", "0.25",        "--alpha",     "0.1",     "--trigger",
                    "total",     "--slow", "6:10", "--kill",      "1:0.5",       "--seed",  "18446744073709551615"};
    options o;
    options_parse(&o, sizeof line / sizeof *line, line);
    ck_assert_str_eq(o.data, "x");
    ck_assert(o.run[ALGORITHM_MEAN] && o.run[ALGORITHM_LGRAWA] && !o.run[ALGORITHM_SINGLE] && !o.run[ALGORITHM_MGRAWA]);
    ck_assert(o.model == MODEL_CNN && o.workers == 7 && o.trigger == TRIGGER_TOTAL && o.seed == UINT64_MAX);
    ck_assert(o.rate == 0.25 && o.alpha == 0.1 && o.slow[6] == 10.0 && o.kill[1] == 0.5 && o.kill[0] > 1.0 && !o.demo);
    options_parse(&o, 1, line);
    ck_assert(!o.data && o.workers == 4 && o.run[ALGORITHM_SINGLE] && o.run[ALGORITHM_LSGD]);
    ck_assert(o.run[ALGORITHM_SUBSPACE] && o.run[ALGORITHM_ADASUM] && o.optimiser == OPTIMISER_SGD && o.rate == 0.02);
    char *other[] = {"train", "--optimiser", "adam", "--algorithm", "subspace,adasum", "--subspace-momentum", "0.5"};
    options_parse(&o, sizeof other / sizeof *other, other);
    ck_assert(o.run[ALGORITHM_SUBSPACE] && o.run[ALGORITHM_ADASUM] && !o.run[ALGORITHM_MEAN]);
    ck_assert(o.optimiser == OPTIMISER_ADAM && o.rate == 0.001 && o.subspace_momentum == 0.5);
    char *sharp[] = {"train", "--algorithm", "qsaddle,dsgdm", "--codec", "topk:0.3", "--rho", "0", "--gamma", "0.5"};
    options_parse(&o, sizeof sharp / sizeof *sharp, sharp);
    ck_assert(o.run[ALGORITHM_QSADDLE] && o.run[ALGORITHM_DSGDM] && !o.run[ALGORITHM_NSADDLE] && !o.all);
    ck_assert(o.codec.kind == WEFT_CODEC_TOPK && o.codec.drop == 0.7 && o.rho == 0.0 && o.gamma == 0.5);
    options_parse(&o, 1, line);
    ck_assert(o.all && o.run[ALGORITHM_NSADDLE] && o.codec.kind == WEFT_CODEC_IDENTITY && o.rho == 0.05);
    ck_assert(o.gamma == 1.0);
    char *by_adam[] = {"train", "--optimiser", "adam"}; /* all that can */
    options_parse(&o, sizeof by_adam / sizeof *by_adam, by_adam);
    ck_assert(o.run[ALGORITHM_DSGD_AAU] && !o.run[ALGORITHM_QSADDLE] && !o.run[ALGORITHM_DSGDM]);
}
END_TEST

/* clang-format off */
static const char *const BAD_LINE[][5] = {
    {"--workers", "0"}, {"--workers", "65"}, {"--workers", "-1"}, {"--workers", "4x"}, {"--workers", ""},
    {"--workers"}, {"--model", "resnet"}, {"--algorithm", "adam"}, {"--algorithm", ""},
    {"--algorithm", "mean,"}, {"--lr", "nan"}, {"--lr", "-0.1"}, {"--lr", "fast"}, {"--pull", "1.5"},
    {"--kill", "1"}, {"--kill", "x:0.5"}, {"--kill", "9:0.5"}, {"--kill", "1:0.95"}, {"--slow", "1:0.5"},
    {"--slow", ":2"}, {"--epochs", "0"}, {"--batch", "0"}, {"--trigger", "never"}, {"--seed", "1.5"},
    {"--frobnicate", "1"}, {"stray"}, {"--period", "0"}, {"--alpha", "-1"}, {"--seconds", "0"},
    {"--csv", "/nonexistent/x"}, {"--optimiser", "lamb"}, {"--subspace-momentum", "1"},
    {"--workers", "1", "--kill", "0:0.5"}, {"--codec", "q9"}, {"--codec", "topk:0"}, {"--codec", "q8:1"},
    {"--codec"}, {"--rho", "-1"}, {"--rho", "nan"}, {"--gamma", "0"}, {"--gamma", "1.5"},
    {"--algorithm", "ngc", "--optimiser", "adam"}, {"--algorithm", "qgm", "--lr", "0"},
    {"--algorithm", "dpsgd", "--topology", "lattice"}, {"--algorithm", "saddle"},
};
/* clang-format on */

START_TEST(bad_options) {
    char line[5][40] = {"train"}, *argv[5] = {line[0]};
    int argc = 1;
    options o;
    for (; argc < 5 && BAD_LINE[_i][argc - 1]; argc++) {
        strcpy(line[argc], BAD_LINE[_i][argc - 1]);
        argv[argc] = line[argc];
    }
    options_parse(&o, argc, argv);
}
END_TEST

int main(void) {
    Suite *s = suite_create("train");
    TCase *t = tcase_create("compute");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, product_of_any_shape, 0, 8);
    tcase_add_test(t, convolution_by_its_definition);
    tcase_add_test(t, pooling_takes_the_largest);
    tcase_add_test(t, exponential);
    tcase_add_loop_test(t, gradients_are_those_of_the_loss, 0, 6);
    tcase_add_loop_test(t, optimiser_by_hand, 0, 2);
    tcase_add_test(t, adam_by_hand);
    suite_add_tcase(s, t);
    t = tcase_create("data");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, shares_are_a_partition, 0, 4);
    tcase_add_test(t, alpha_makes_shares_unequal);
    tcase_add_test(t, samplers_deal_out_epochs);
    tcase_add_exit_test(t, more_workers_than_images, EXIT_BAD_INPUT);
    tcase_add_test(t, glyphs_are_the_same_everywhere);
    tcase_add_test(t, glyphs_can_be_learnt_and_do_not_saturate);
    suite_add_tcase(s, t);
    t = tcase_create("files");
    tcase_add_unchecked_fixture(t, make_folder, remove_folder);
    tcase_add_test(t, idx_files);
    tcase_add_test(t, cifar_files);
    tcase_add_loop_exit_test(t, bad_files, EXIT_BAD_INPUT, 0, 16);
    suite_add_tcase(s, t);
    t = tcase_create("options");
    tcase_add_test(t, options_are_read);
    tcase_add_loop_exit_test(t, bad_options, EXIT_BAD_INPUT, 0, sizeof BAD_LINE / sizeof *BAD_LINE);
    suite_add_tcase(s, t);

    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
