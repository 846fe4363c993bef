/* SPDX-License-Identifier: MIT
 * The benchmark of the device kernels (bench/cuda) on the CPU, with a clock that is made up: all rows are there with
 * the figures that this clock gives, whatever a work writes or yields is compared before it is timed, and nothing goes
 * wrong unnoticed. */
#define WEFT_CUDA_RUNTIME "cuda_clock.h"
#define main bench_main
#include "../bench/cuda/main.cpp"
#undef main

#include <check.h>
#include <string>
#include <sys/stat.h>
#include <sys/wait.h>

/* What is to come out, worked out by hand. */
static const struct expected {
    const char *name;
    unsigned compared;                          /* arrays and results */
    unsigned launches;                          /* of kernels; 0: a copy */
    double bytes[sizeof types / sizeof *types]; /* a parameter */
} all[] = {
    {"copy", 1, 0, {8, 16, 4}},
    {"scale", 1, 1, {8, 16, 4}},
    {"axpy", 1, 1, {12, 24, 6}},
    {"pull", 1, 1, {12, 24, 6}},
    {"sam-perturb", 2, 1, {16, 32, 8}},
    {"weighted-sum-2", 2, 1, {12, 24, 6}},
    {"weighted-sum-8", 2, 1, {36, 72, 18}},
    {"weighted-sum-40", 2, 3, {164, 328, 82}},
    {"wide-sum-2", 2, 1, {12, 24, 6}},
    {"wide-sum-8", 2, 1, {36, 72, 18}},
    {"wide-sum-40", 2, 3, {164, 328, 82}},
    {"dot", 1, 1, {8, 16, 4}},
    {"sqnorm", 1, 1, {4, 8, 2}},
    {"dots", 1, 1, {8, 16, 4}},
    {"sgd", 2, 1, {12, 24, 6}},
    {"sgd-momentum", 3, 1, {20, 40, 10}},
    {"count", 1, 1, {4, 8, 2}},
    {"hash", 1, 1, {4, 8, 2}},
    {"replica-begin", 3, 1, {16, 32, 14}},
    {"replica-launch", 4, 1, {28, 56, 22}},
    {"replica-merge", 3, 1, {24, 48, 20}},
    {"numbers-4", 1, 4, {16, 32, 8}},
    {"numbers-8", 1, 8, {32, 64, 16}},
    {"numbers-40", 1, 42, {160, 320, 80}},
};
enum { ALL = sizeof all / sizeof *all, TYPES = sizeof types / sizeof *types };

static std::string folder;

static void setup(void) {
    char path[] = "/tmp/weft-cuda-bench-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(path));
    folder = path;
}

static void teardown(void) {
    static const char *const files[] = {"out", "err", "rows.jsonl", "rows.md", "rows.jsonl.part", "rows.md.part"};
    for (const char *f : files) remove((folder + "/" + f).c_str());
    ck_assert_int_eq(remove(folder.c_str()), 0);
}

static std::string text_of(const char *name) {
    std::string text;
    FILE *f = fopen((folder + "/" + name).c_str(), "r");
    ck_assert_msg(f != NULL, "no file %s", name);
    for (int c; (c = fgetc(f)) != EOF;) text += (char)c;
    fclose(f);
    return text;
}

static bool is_there(const char *name) {
    struct stat s;
    return stat((folder + "/" + name).c_str(), &s) == 0;
}

static size_t count_of(const std::string &text, const std::string &what) {
    size_t n = 0;
    for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at++) n++;
    return n;
}

/* Its status, in a process of its own, on the GPU that `on` says; arguments separated by blanks. */
static int bench(const cushim::gpu &on, const std::string &arguments) {
    int status = -1;
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (!child) {
        std::string text = "bench-cuda " + arguments + " ";
        std::vector<char *> argv;
        for (size_t at = 0, end; (end = text.find(' ', at)) != std::string::npos; at = end + 1) {
            text[end] = 0;
            argv.push_back(&text[at]);
        }
        if (!freopen((folder + "/out").c_str(), "w", stdout) || !freopen((folder + "/err").c_str(), "w", stderr))
            _exit(99);
        cushim::it() = on;
        argv.push_back(NULL);
        exit(bench_main((int)argv.size() - 1, argv.data()));
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Of a row. */
static double number(const std::string &row, const std::string &key) {
    const size_t at = row.find("\"" + key + "\":");
    ck_assert_msg(at != std::string::npos, "no %s in %s", key.c_str(), row.c_str());
    const size_t median = row[at + key.size() + 3] == '{' ? row.find("\"median\":", at) + 9 : at + key.size() + 3;
    return strtod(row.c_str() + median, NULL);
}

static void about(const std::string &row, const char *key, double want) {
    const double got = number(row, key);
    ck_assert_msg(fabs(got - want) <= 1e-5 * want, "%s: %g, want %g: %s", key, got, want, row.c_str());
}

START_TEST(rows_are_all_there) {
    static const double sizes[] = {300, 5000}, cache = 6000;
    const cushim::gpu on = cushim::it();
    unsigned judged = 0, bad = 0, seen = 0;
    ck_assert_int_eq(bench(on, "--sizes 300,5000 --goal-from 5000 --quick --json " + folder + "/rows.jsonl"), 0);
    const std::string rows = text_of("rows.jsonl"), text = text_of("rows.md");
    ck_assert_uint_eq(count_of(rows, "\n"), 2 * TYPES * ALL);
    for (double d : sizes)
        for (unsigned t = 0; t < TYPES; t++)
            for (const expected &e : all) {
                const std::string key = std::string("\"work\":\"") + e.name + "\",\"dtype\":\"" + types[t].name +
                                        "\",\"d\":" + std::to_string((int)d) + ",";
                ck_assert_msg(count_of(rows, key) == 1, "not once: %s", key.c_str());
                const size_t at = rows.find(key);
                const std::string row = rows.substr(at, rows.find('\n', at) - at);
                const double each = t == 0 ? 4 : t == 1 ? 8 : 2, bytes = e.bytes[t] * d;
                const double ms = e.launches ? e.launches * cushim::LAUNCH : cushim::COPY;
                const double rate = bytes / ms * 1e-6, copy = 2 * each * d / cushim::COPY * 1e-6;
                const char *met = d < 5000 || bytes < 2 * cache ? "-" : rate / copy >= 0.9 ? "yes" : "no";
                about(row, "least_bytes_a_parameter", e.bytes[t]);
                about(row, "ms", ms);
                about(row, "gb_per_s", rate);
                about(row, "copy_gb_per_s", copy);
                about(row, "memset_gb_per_s", each * d / cushim::SET * 1e-6);
                about(row, "of_copy", rate / copy);
                ck_assert_uint_ge((unsigned)number(row, "rounds"), 3);
                ck_assert_msg(row.find(std::string("\"met\":\"") + met + "\"") != std::string::npos, "met: %s, not %s",
                              row.c_str(), met);
                judged += *met != '-';
                bad += *met == 'n';
                seen += bytes < 2 * cache && d >= 5000;
            }
    ck_assert_uint_gt(bad, 0);
    ck_assert_uint_gt(judged, bad);
    ck_assert_uint_gt(seen, 0); /* the cache's */
    ck_assert_uint_eq(
        count_of(text, std::to_string(bad) + " of " + std::to_string(judged) + " rows with a goal miss it"), 1);
    ck_assert_uint_eq(count_of(text, "a made-up GPU, sm_75, 1 processors"), 1);
    ck_assert_uint_eq(count_of(text, "for CUDA 13.1; runtime: 12.4"), 1);
    ck_assert_uint_eq(count_of(text, "`bench-cuda --sizes 300,5000 "), 1);
    ck_assert_uint_eq(count_of(rows, "\"gpu\":\"a made-up GPU"), 2 * TYPES * ALL);
    ck_assert_uint_eq(count_of(text, "## d = "), 2 * TYPES);
}
END_TEST

/* Whichever bit comes back another one. */
START_TEST(everything_is_compared) {
    const expected &e = all[_i];
    for (const auto &t : types)
        for (unsigned i = 0; i <= e.compared; i++) {
            cushim::gpu on = cushim::it();
            on.spoilt = i;
            const int status = bench(on, std::string("--sizes 300 --quick --only ") + e.name + " --types " + t.name);
            const std::string said = text_of("err");
            ck_assert_msg(status == (i < e.compared), "%s, %s, %u of %u: status %d: %s", e.name, t.name, i, e.compared,
                          status, said.c_str());
            if (i < e.compared)
                ck_assert_msg(count_of(said, std::string(e.name) + ": other ") == 1 &&
                                  count_of(said, "than the serial kernels'") == 1,
                              "said: %s", said.c_str());
        }
}
END_TEST

/* Each call of the runtime fails once, at once or when it is waited for. */
START_TEST(a_failing_runtime_is_an_error) {
    cushim::gpu on = cushim::it();
    int status = 1;
#ifdef __SANITIZE_ADDRESS__ /* which is slow with fibers */
    const long each = 5;
#else
    const long each = 1;
#endif
    on.late = _i != 0;
    for (on.fails_at = _i; status; on.fails_at += each) {
        status = bench(on, "--sizes 100 --quick --only scale,sqnorm --types f32 --json " + folder + "/rows.jsonl");
        const std::string said = text_of("err");
        ck_assert_int_eq(is_there("rows.jsonl"), !status);
        ck_assert_int_eq(is_there("rows.md"), !status);
        if (!status) break;
        ck_assert_msg(status == 1 && count_of(said, "bench-cuda: ") == 1, "call %ld: status %d: %s", on.fails_at,
                      status, said.c_str());
    }
    ck_assert_int_gt(on.fails_at, 100);
    ck_assert_uint_eq(count_of(text_of("rows.jsonl"), "\n"), 2);
}
END_TEST

START_TEST(no_gpu) {
    cushim::gpu on = cushim::it();
    on.none = true;
    ck_assert_int_eq(bench(on, "--json " + folder + "/rows.jsonl"), 1);
    ck_assert(text_of("err") == "bench-cuda: no GPU: an error of the shim\n");
    ck_assert(text_of("out") == "");
    ck_assert(!is_there("rows.jsonl.part"));
}
END_TEST

START_TEST(the_clock_stands_still) {
    cushim::gpu on = cushim::it();
    on.stands = 0;
    ck_assert_int_eq(bench(on, "--sizes 100 --only scale"), 1);
    ck_assert_uint_eq(count_of(text_of("err"), "scale: the GPU's clock stands still"), 1);
}
END_TEST

/* Works for which there are too few arrays are left out, and it is said. */
START_TEST(little_memory) {
    cushim::gpu on = cushim::it();
    on.memory = 100000;
    ck_assert_int_eq(bench(on, "--sizes 300 --quick --types f32 --json " + folder + "/rows.jsonl"), 0);
    const std::string rows = text_of("rows.jsonl"), text = text_of("rows.md");
    unsigned out = 0;
    for (const expected &e : all) {
        const bool many = strstr(e.name, "-40") != NULL;
        ck_assert_uint_eq(count_of(rows, std::string("\"work\":\"") + e.name + "\""), !many);
        out += many;
    }
    ck_assert_uint_eq(out, 3);
    ck_assert_uint_eq(count_of(text, "Left out: "), out);
    ck_assert_uint_eq(count_of(text, " arrays of 41.\n"), out);
}
END_TEST

START_TEST(options_are_read) {
    const cushim::gpu on = cushim::it();
    ck_assert_int_eq(bench(on, "--help"), 0);
    for (const expected &e : all) ck_assert_uint_ge(count_of(text_of("out"), e.name), 1);
    ck_assert_int_eq(bench(on, "--nonsense"), 2);
    ck_assert_int_eq(bench(on, "--sizes 0"), 2);
    ck_assert_int_eq(bench(on, "--sizes"), 2);
}
END_TEST

static TCase *add(Suite *s, const char *name) {
    TCase *c = tcase_create(name);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_set_timeout(c, 300);
    suite_add_tcase(s, c);
    return c;
}

int main(void) {
    Suite *s = suite_create("bench");
    SRunner *runner = srunner_create(s);
    tcase_add_test(add(s, "rows"), rows_are_all_there);
    tcase_add_loop_test(add(s, "compared"), everything_is_compared, 0, ALL);
    tcase_add_loop_test(add(s, "failing"), a_failing_runtime_is_an_error, 0, 2);
    TCase *c = add(s, "others");
    tcase_add_test(c, no_gpu);
    tcase_add_test(c, the_clock_stands_still);
    tcase_add_test(c, little_memory);
    tcase_add_test(c, options_are_read);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
