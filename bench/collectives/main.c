/* SPDX-License-Identifier: MIT
 * bench-collectives: sums over all ranks: ours between the threads of one process, and between processes over TCP and
 * over MPI, against OpenMPI, Gloo and a ring of plain sockets between processes of this machine.
 *
 * Everybody sums float vectors in place. Contestants take turns, block after block, in an order that rotates; the
 * processes of peers live on between their turns, and sleep. A block is a number of operations one after the other,
 * after some that are not timed and a barrier; its value is rank 0's time by the number of operations. Ratios are
 * formed of two blocks of one round; reported are medians and quartiles over the rounds. Before anything is timed,
 * each one's sum must be right. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "child.h"
#include "clock.h"
#include "collectives.h"
#include "latency.h"
#include "load.h"
#include "machine.h"
#include "options.h"
#include "report.h"
#include "stats.h"
#include "table.h"
#include "train/plot.h"

#include <arpa/inet.h>
#include <libgen.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>

enum { MOST_SIZES = 16, MOST_COUNTS = 8, MOST_ROUNDS = 41, MOST_RANKS = 64 };
#define MOST_OF_MANY 2e8 /* bytes, with more than 4 ranks */

typedef struct settings {
    double size[MOST_SIZES], ranks[MOST_COUNTS];
    size_t sizes, counts;
    const char *rows_at, *only;
    int quick;
    double seconds;
    char programs[4096]; /* folder of the peers' programs */
} settings;

/* ours in this process; ours between processes; others */
typedef enum who {
    SUM, HOST, MESSAGES,
    TCP, RING, OVER_MPI,
    MPI_SHM, MPI_TCP, GLOO, FLOOR,
    CONTESTANTS,
    PROCESSES = TCP,
    OTHERS = MPI_SHM
} who;

static const struct {
    const char *key, *title, *column, *what;
} names[CONTESTANTS] = {
    {"sum", "ours: all_reduce", "ours: all_reduce", "the transport's all_reduce, in place, as MPI_Allreduce"},
    {"host", "ours: object, host's sum", "object, host's sum",
     "the collective object, which commits wholly or not at all, over that"},
    {"messages", "ours: object, messages", "object, messages",
     "the collective object over send and recv, the same bits on any transport"},
    {"tcp", "ours: TCP", "TCP", "the collective object over weft_tcp.h, added up in the order of ranks"},
    {"ring", "ours: TCP, ring", "TCP, ring", "the collective object over weft_tcp.h, WEFT_ALGORITHM_RING"},
    {"over-mpi", "ours: MPI", "over MPI", "the collective object over weft_mpi.h's send and recv, Open MPI's btl vader"},
    {"mpi-shm", "OpenMPI, shared memory", "OpenMPI shm", "mpirun, MPI_Allreduce in place, btl vader"},
    {"mpi-tcp", "OpenMPI, TCP", "OpenMPI tcp", "mpirun, MPI_Allreduce in place, btl tcp over loopback"},
    {"gloo", "Gloo", "Gloo", "ProcessGroupGloo, over loopback"},
    {"floor", "plain ring", "plain ring", "2 (n - 1) steps over plain sockets, in place, no framing, no checks: the floor"},
};

typedef struct contestant {
    ours *own;
    children *peer;
    int present;
    int operations;
    double seconds[MOST_ROUNDS];
    stats time;
} contestant;

typedef struct row {
    int ranks;
    size_t bytes, rounds;
    contestant c[CONTESTANTS];
    double core_to_core[MOST_ROUNDS];
    stats latency;
    load others; /* while ours was measured: the peers sleep then */
} row;

/* ---- peers ---- */

static children peers[CONTESTANTS];

static void mpi_start(children *p, const settings *s, int ranks, int tcp, int own) {
    char program[4200], count[16];
    char *shm_argv[] = {(char *)"mpirun", (char *)"--allow-run-as-root", (char *)"--oversubscribe", (char *)"-n", count,
                        (char *)"--mca", (char *)"pml", (char *)"ob1", (char *)"--mca", (char *)"btl",
                        (char *)(tcp ? "tcp,self" : "vader,self"), (char *)"--mca", (char *)"btl_tcp_if_include",
                        (char *)"lo", program, (char *)(own ? "ours" : NULL), NULL};
    snprintf(program, sizeof program, "%s/bench-peer-mpi", s->programs);
    snprintf(count, sizeof count, "%d", ranks);
    if (access(program, X_OK) == 0) children_add(p, shm_argv);
}

/* Addresses at which nobody listens. */
static void find_addresses(char *list, size_t size, int ranks) {
    int fd[MOST_RANKS], i;
    for (i = 0, list[0] = 0; i < ranks; i++) {
        struct sockaddr_in a;
        socklen_t bytes = sizeof a;
        memset(&a, 0, sizeof a);
        a.sin_family = AF_INET;
        a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        fd[i] = socket(AF_INET, SOCK_STREAM, 0);
        if (fd[i] < 0 || bind(fd[i], (struct sockaddr *)(void *)&a, sizeof a) ||
            getsockname(fd[i], (struct sockaddr *)(void *)&a, &bytes)) {
            perror("bench-collectives: sockets");
            exit(1);
        }
        snprintf(list + strlen(list), size - strlen(list), "%s127.0.0.1:%d", i ? "," : "", ntohs(a.sin_port));
    }
    while (i--) close(fd[i]);
}

/* A process a rank, with the list of all. */
static void sockets_start(children *p, const settings *s, int ranks, who which) {
    char program[4200], rank[16], list[MOST_RANKS * 24];
    char *argv[] = {program, rank, list, (char *)(which == RING ? "ring" : which == TCP ? "auto" : NULL), NULL};
    int i;
    snprintf(program, sizeof program, "%s/bench-peer-%s", s->programs, which == FLOOR ? "ring" : "tcp");
    if (access(program, X_OK) != 0) return;
    find_addresses(list, sizeof list, ranks);
    for (i = 0; i < ranks; i++) {
        snprintf(rank, sizeof rank, "%d", i);
        if (!children_add(p, argv)) break;
    }
}

static void gloo_start(children *p, const settings *s, int ranks) {
    char program[4200], rank[16], count[16], store[] = "/tmp/bench-gloo-XXXXXX";
    char *argv[] = {program, rank, count, store, NULL};
    int i, fd;
    snprintf(program, sizeof program, "%s/bench-peer-gloo", s->programs);
    if (access(program, X_OK) != 0 || (fd = mkstemp(store)) < 0) return;
    close(fd);
    snprintf(count, sizeof count, "%d", ranks);
    for (i = 0; i < ranks; i++) {
        snprintf(rank, sizeof rank, "%d", i);
        if (!children_add(p, argv)) break;
    }
    if (i == ranks) {
        char answer[CHILD_LINE];
        children_ask(p, "check 4\n", answer); /* after which all have found all others */
    }
    unlink(store);
}

static void peers_start(const settings *s, int ranks) {
    int i;
    for (i = PROCESSES; i < CONTESTANTS; i++) {
        children *p = &peers[i];
        memset(p, 0, sizeof *p);
        p->name = names[i].title;
        if (!option_lists(s->only, names[i].key)) continue;
        if (i == GLOO) gloo_start(p, s, ranks);
        else if (i == TCP || i == RING || i == FLOOR) sockets_start(p, s, ranks, (who)i);
        else mpi_start(p, s, ranks, i == MPI_TCP, i == OVER_MPI);
    }
}

static void peers_stop(void) {
    int i;
    for (i = PROCESSES; i < CONTESTANTS; i++)
        if (peers[i].count) children_stop(&peers[i]);
}

/* ---- one contestant ---- */

/* Seconds an operation; a peer that fails is not present any more. */
static double block(contestant *c, size_t bytes, int operations) {
    char command[128], answer[CHILD_LINE];
    if (c->own) return ours_block(c->own, operations);
    snprintf(command, sizeof command, "run %zu %d\n", bytes, operations);
    if (children_ask(c->peer, command, answer)) return atof(answer);
    c->present = 0;
    return (double)NAN;
}

static int check(contestant *c, size_t bytes) {
    char command[128], answer[CHILD_LINE];
    if (c->own) return ours_check(c->own);
    snprintf(command, sizeof command, "check %zu\n", bytes);
    if (!children_ask(c->peer, command, answer)) c->present = 0;
    return !c->present || answer[0] == '1';
}

/* As many operations as take a twentieth of a second; vectors that grow bound them. */
static void calibrate(contestant *c, size_t bytes, int quick) {
    const double wanted = quick ? 0.02 : 0.05;
    int most = bytes <= SMALL_BYTES ? 50000 : MOST_OPERATIONS * 4 / 5, n;
    for (n = 1; n < most; n *= 4)
        if (block(c, bytes, n) * n > wanted / 8) break;
    if (!c->present) return;
    if (n > most) n = most;
    c->operations = (int)fmin(most, fmax(1, wanted / block(c, bytes, n)));
}

/* ---- a row ---- */

static float *vector_map(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p != MAP_FAILED) return (float *)p;
    fprintf(stderr, "bench-collectives: %zu bytes cannot be had\n", bytes);
    exit(1);
}

static void run_row(row *r, const settings *s) {
    const size_t least = s->quick ? 3 : 7;
    float *vector[MOST_RANKS];
    double start;
    int i, at;
    for (i = 0; i < r->ranks; i++) vector[i] = vector_map(r->bytes);
    for (i = 0; i < CONTESTANTS; i++) {
        contestant *c = &r->c[i];
        if (i < PROCESSES && option_lists(s->only, names[i].key))
            c->own = ours_open((enum ours_mode)i, r->ranks, r->bytes, vector);
        else if (peers[i].count) c->peer = &peers[i];
        c->present = c->own || c->peer;
        if (c->present && !check(c, r->bytes)) {
            fprintf(stderr, "bench-collectives: %s: the sum is wrong\n", names[i].title);
            exit(1);
        }
        if (c->present) calibrate(c, r->bytes, s->quick);
    }
    start = clock_now();
    while (r->rounds < least || (r->rounds < MOST_ROUNDS && clock_now() - start < s->seconds)) {
        r->core_to_core[r->rounds] = latency_ns();
        for (i = 0; i < CONTESTANTS; i++) {
            contestant *c = &r->c[at = (i + (int)r->rounds) % CONTESTANTS];
            c->seconds[r->rounds] = (double)NAN;
            if (!c->present) continue;
            clock_sleep(2e-3); /* the one before has gone to sleep */
            if (c->own) load_begin(&r->others);
            c->seconds[r->rounds] = block(c, r->bytes, c->operations);
            if (c->own) load_end(&r->others);
        }
        r->rounds++;
    }
    for (i = 0; i < CONTESTANTS; i++) {
        r->c[i].time = stats_of(r->c[i].seconds, r->c[i].present ? r->rounds : 0);
        if (r->c[i].own) ours_close(r->c[i].own);
    }
    r->latency = stats_of(r->core_to_core, r->rounds);
    for (i = 0; i < r->ranks; i++) munmap(vector[i], r->bytes);
}

/* ---- goals and reporting ---- */

/* How many times as fast as `peer` `own` shall be at this size; 0: no goal. */
static double goal_of(size_t bytes, who peer, who own) {
    const int large = bytes == (size_t)100 << 20, small = bytes <= 4096;
    if (own == SUM) return peer == MPI_SHM ? (small ? 1 : large ? 5 : 0) : peer == GLOO && large ? 10 : 0;
    if (own == TCP && small) return peer == MPI_TCP ? 1 : 0;
    if (own != RING || !large) return 0;
    return peer == MPI_TCP ? 1.3 : peer == GLOO ? 1.2 : peer == FLOOR ? 0.9 : 0;
}

/* Peer / `own`. */
static stats ratio_of(const row *r, who peer, who own) {
    const int both = r->c[peer].present && r->c[own].present;
    return stats_of_ratios(r->c[peer].seconds, r->c[own].seconds, both ? r->rounds : 0);
}

static const char *judge(double ratio, double goal) {
    if (goal == 0 || !isfinite(ratio)) return "-";
    return ratio >= goal ? "yes" : ratio >= 0.85 * goal ? "within slack" : "no";
}

/* Bytes that each rank must at least send, by the time: 1e9 a second. */
static double bus(const row *r, who c) {
    return 2.0 * (r->ranks - 1) / r->ranks * (double)r->bytes / r->c[c].time.median / 1e9;
}

static void write_row(report *out, const machine *m, const row *r) {
    json *j = &out->rows;
    int i, k;
    json_line_begin(j);
    json_text(j, "bench", "collectives");
    json_text(j, "date", m->date);
    json_text(j, "operation", "all-reduce, float, in place");
    json_integer(j, "ranks", r->ranks);
    json_integer(j, "bytes", (long long)r->bytes);
    json_integer(j, "rounds", (long long)r->rounds);
    json_stats(j, "core_to_core_ns", r->latency, 1);
    json_number(j, "others_load", load_share(&r->others));
    json_begin(j, "contestants", '[');
    for (i = 0; i < CONTESTANTS; i++) {
        if (!r->c[i].present) continue;
        json_begin(j, NULL, '{');
        json_text(j, "name", names[i].title);
        json_text(j, "what", names[i].what);
        json_integer(j, "operations_a_block", r->c[i].operations);
        json_stats(j, "us", r->c[i].time, 1e6);
        json_number(j, "bus_gb_per_s", bus(r, (who)i));
        for (k = SUM; i >= OTHERS && k < OTHERS; k++) {
            const double goal = goal_of(r->bytes, (who)i, (who)k);
            char key[64];
            if (!r->c[k].present) continue;
            snprintf(key, sizeof key, "ratio_to_%s", names[k].key);
            json_stats(j, key, ratio_of(r, (who)i, (who)k), 1);
            if (goal == 0) continue;
            snprintf(key, sizeof key, "goal_of_%s", names[k].key);
            json_number(j, key, goal);
            snprintf(key, sizeof key, "met_by_%s", names[k].key);
            json_text(j, key, judge(ratio_of(r, (who)i, (who)k).median, goal));
        }
        json_end(j, '}');
    }
    json_end(j, ']');
    machine_row(m, j);
    json_line_end(j);
}

static void size_text(char *text, size_t size, size_t bytes) {
    if (bytes >= 1 << 20 && bytes % (1 << 20) == 0) snprintf(text, size, "%zu MiB", bytes >> 20);
    else if (bytes >= 1000000 && bytes % 1000000 == 0) snprintf(text, size, "%zu MB", bytes / 1000000);
    else if (bytes >= 1024 && bytes % 1024 == 0) snprintf(text, size, "%zu KiB", bytes >> 10);
    else snprintf(text, size, "%zu B", bytes);
}

enum { TIMES, BUS, ADDRESS, NETWORK, TABLES };

static void cell_ratio(table *t, const row *r, who peer, who own) {
    const stats ratio = ratio_of(r, peer, own);
    const double goal = goal_of(r->bytes, peer, own);
    if (!isfinite(ratio.median)) table_cell(t, "-");
    else if (goal > 0)
        table_cell(t, "%.2f (%.2f to %.2f), goal %.1f: %s", ratio.median, ratio.q1, ratio.q3, goal,
                   judge(ratio.median, goal));
    else table_cell(t, "%.2f (%.2f to %.2f)", ratio.median, ratio.q1, ratio.q3);
}

static void lines(const row *r, table **t) {
    char size[32];
    int i, k;
    size_text(size, sizeof size, r->bytes);
    for (i = TIMES; i <= BUS; i++) {
        table_row(t[i]);
        table_cell(t[i], "%d", r->ranks);
        table_cell(t[i], "%s", size);
        for (k = 0; k < CONTESTANTS; k++)
            table_number(t[i], i == TIMES ? r->c[k].time.median * 1e6 : bus(r, (who)k), "");
    }
    table_cell(t[TIMES], "%.0f to %.0f", r->latency.q1, r->latency.q3);
    table_number(t[TIMES], 100 * load_share(&r->others), " %");
    for (i = OTHERS; i < CONTESTANTS; i++) {
        if (!r->c[i].present) continue;
        for (k = ADDRESS; k <= NETWORK; k++) {
            if (k == ADDRESS && i == FLOOR) continue;
            table_row(t[k]);
            table_cell(t[k], "%d", r->ranks);
            table_cell(t[k], "%s", size);
            table_cell(t[k], "%s", names[i].title);
            cell_ratio(t[k], r, (who)i, k == ADDRESS ? SUM : TCP);
            cell_ratio(t[k], r, (who)i, k == ADDRESS ? HOST : RING);
            cell_ratio(t[k], r, (who)i, k == ADDRESS ? MESSAGES : OVER_MPI);
        }
    }
}

static void say_head(report *out, const machine *m, const settings *s) {
    int i;
    report_say(out, "# Collectives\n\n");
    report_say(out, "- Written by `make bench-collectives`%s.\n", s->quick ? " with --quick: a look, no result" : "");
    machine_report(m, out);
    for (i = 0; i < CONTESTANTS; i++) {
        char hello[CHILD_LINE];
        if (!option_lists(s->only, names[i].key)) continue;
        if (i < PROCESSES) report_say(out, "- %s: %s\n", names[i].title, names[i].what);
        else if (peers[i].count && children_ask(&peers[i], "hello\n", hello))
            report_say(out, "- %s: %s; %s\n", names[i].title, hello, names[i].what);
        else report_say(out, "- %s: not here, left out (make bench-deps)\n", names[i].title);
    }
    report_say(out, "\nAll-reduce of floats in place: the first three between threads of one process, the rest between\n"
                    "processes. Microseconds are medians. Bus: 2 (n - 1) / n of the bytes by that time, GB/s. Ratios are\n"
                    "peer / ours, formed round by round, with their quartiles. Core to core: nanoseconds for a cache\n"
                    "line, quartiles. Others: how much of the processors other programs had meanwhile.\n\n");
}

/* Bus bandwidth over size, a panel for each number of ranks; beside the rows, as .svg. */
static void picture(const settings *s, row (*rows)[MOST_SIZES]) {
    static double x[MOST_COUNTS][CONTESTANTS][MOST_SIZES], y[MOST_COUNTS][CONTESTANTS][MOST_SIZES];
    static plot_series series[MOST_COUNTS][CONTESTANTS];
    static const int colours[CONTESTANTS] = {1, 0, 2, 3, 4, 0, 5, 6, 7, 0};
    static const who shown[] = {SUM, MESSAGES, TCP, RING, MPI_SHM, MPI_TCP, GLOO, FLOOR};
    plot_panel panel[MOST_COUNTS];
    char title[MOST_COUNTS][32], file[REPORT_PATH];
    size_t n, i, k;
    if (!s->rows_at) return;
    report_path(file, s->rows_at, ".svg");
    for (n = 0; n < s->counts; n++) {
        plot_panel *p = &panel[n];
        memset(p, 0, sizeof *p);
        snprintf(title[n], sizeof title[n], "%d ranks", (int)s->ranks[n]);
        p->title = title[n];
        p->x_label = "log10 of bytes";
        p->y_label = "log10 of bus bandwidth, GB/s";
        p->y_from = -5;
        p->y_upto = 2;
        p->series = series[n];
        for (i = 0; i < sizeof shown / sizeof shown[0]; i++) {
            plot_series *l = &series[n][p->count];
            for (k = 0; k < s->sizes; k++) {
                const row *r = &rows[n][k];
                if (!r->rounds || !r->c[shown[i]].present) continue;
                x[n][i][l->count] = log10((double)r->bytes);
                y[n][i][l->count++] = log10(bus(r, shown[i]));
            }
            l->name = names[shown[i]].title;
            l->colour = colours[shown[i]];
            l->x = x[n][i];
            l->y = y[n][i];
            if (l->count) p->count++;
        }
    }
    plot_panels(file, "All-reduce: bus bandwidth", s->counts, panel);
}

static void run_all(const settings *s, report *out, const machine *m) {
    static row rows[MOST_COUNTS][MOST_SIZES];
    static const char *const heads[TABLES] = {"Microseconds", "Bus bandwidth, GB/s",
                                              "Times as fast: in one address space, and messages in it",
                                              "Times as fast: ours between processes"};
    table *t[TABLES];
    char titles[512];
    size_t n, i, used = (size_t)snprintf(titles, sizeof titles, ">ranks|>size");
    int k;
    for (k = 0; k < CONTESTANTS; k++)
        used += (size_t)snprintf(titles + used, sizeof titles - used, "|>%s", names[k].column);
    t[BUS] = table_new(titles);
    snprintf(titles + used, sizeof titles - used, "|>core to core, ns|>others");
    t[TIMES] = table_new(titles);
    t[ADDRESS] = table_new(">ranks|>size|peer|>/ all_reduce|>/ object, host's sum|>/ object, messages");
    t[NETWORK] = table_new(">ranks|>size|peer|>/ TCP|>/ TCP, ring|>/ over MPI");
    for (n = 0; n < s->counts; n++) {
        peers_start(s, (int)s->ranks[n]);
        if (n == 0) say_head(out, m, s);
        for (i = 0; i < s->sizes; i++) {
            row *r = &rows[n][i];
            if (s->size[i] > MOST_OF_MANY && s->ranks[n] > 4) continue; /* memory */
            r->ranks = (int)s->ranks[n];
            r->bytes = (size_t)s->size[i];
            fprintf(stderr, "%d ranks, %zu bytes ...", r->ranks, r->bytes);
            run_row(r, s);
            for (k = 0; k < CONTESTANTS; k++)
                if (r->c[k].present) fprintf(stderr, " %s %.3g us,", names[k].key, r->c[k].time.median * 1e6);
            fprintf(stderr, " %zu rounds\n", r->rounds);
            write_row(out, m, r);
            lines(r, t);
        }
        peers_stop();
    }
    for (k = 0; k < TABLES; k++) {
        report_say(out, "## %s\n\n", heads[k]);
        table_print(t[k], out);
    }
    picture(s, rows);
}

static void usage(FILE *to) {
    int i;
    fprintf(to, "bench-collectives [options]\n"
                "  --sizes LIST     bytes (4,4Ki,1Mi,100Mi)\n"
                "  --full           500 MB as well, with up to 4 ranks\n"
                "  --ranks LIST     ranks (2,4,8)\n"
                "  --only NAMES     of these:");
    for (i = 0; i < CONTESTANTS; i++) fprintf(to, "%s %s", i ? "," : "", names[i].key);
    fprintf(to, "\n"
                "  --seconds S      for the rounds of a row (8)\n"
                "  --quick          few rounds, to see whether everything works\n"
                "  --json FILE      rows as JSON lines into FILE, the report beside it as .md, a picture as .svg\n");
}

static settings settings_read(int argc, char **argv) {
    settings s;
    options o;
    const char *v;
    char self[4096];
    ssize_t n;
    size_t i;
    memset(&s, 0, sizeof s);
    o.argc = argc;
    o.argv = argv;
    s.sizes = option_numbers("4,4Ki,1Mi,100Mi", s.size, MOST_SIZES);
    s.counts = option_numbers("2,4,8", s.ranks, MOST_COUNTS);
    for (o.at = 1; o.at < argc;) {
        if (option_switch(&o, "--help")) {
            usage(stdout);
            exit(0);
        }
        if (option_switch(&o, "--quick")) s.quick = 1;
        else if (option_switch(&o, "--full")) s.sizes = option_numbers("4,4Ki,1Mi,100Mi,500M", s.size, MOST_SIZES);
        else if ((v = option_value(&o, "--sizes"))) s.sizes = option_numbers(v, s.size, MOST_SIZES);
        else if ((v = option_value(&o, "--ranks"))) s.counts = option_numbers(v, s.ranks, MOST_COUNTS);
        else if ((v = option_value(&o, "--only"))) s.only = v;
        else if ((v = option_value(&o, "--json"))) s.rows_at = v;
        else if ((v = option_value(&o, "--seconds"))) s.seconds = atof(v);
        else {
            fprintf(stderr, "bench-collectives: what is '%s'?\n", argv[o.at]);
            usage(stderr);
            exit(2);
        }
    }
    for (i = 0; i < s.sizes; i++) s.size[i] = floor(s.size[i] / 4) * 4;
    for (i = 0; i < s.counts; i++)
        if (s.ranks[i] < 2 || s.ranks[i] > 8) {
            fprintf(stderr, "bench-collectives: 2 to 8 ranks\n");
            exit(2);
        }
    if (s.seconds <= 0) s.seconds = s.quick ? 0.5 : 8;
    n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    snprintf(s.programs, sizeof s.programs, "%s", n > 0 ? dirname(self) : ".");
    return s;
}

int main(int argc, char **argv) {
    const settings s = settings_read(argc, argv);
    machine m;
    report out;
    signal(SIGPIPE, SIG_IGN);
    machine_describe(&m);
    report_open(&out, s.rows_at);
    run_all(&s, &out, &m);
    report_close(&out);
    return 0;
}
