/* SPDX-License-Identifier: MIT
 * trace2json: what flight recorders wrote (weft_recorder.h), as JSON for chrome://tracing or Perfetto.
 *
 *     build/trace2json FILE... > run.json
 *
 * A row for each worker: its rounds from begun to committed or abandoned, what it sent and received, and an arrow from
 * each message sent to the one received. Workers on several machines have clocks of their own: rows are shifted so that
 * no message comes before it was sent, as far as that can be had. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_WORKERS = 4096 };

typedef struct line {
    uint64_t at_ns, round, value;
    uint32_t rank, peer; /* peer: UINT32_MAX: none */
    char what[12];
    size_t number; /* of messages from one to another: counted from 0 */
} line;

static line *all;
static size_t count, room;

static void fail(const char *file, size_t at, const char *why) {
    if (at)
        fprintf(stderr, "trace2json: %s:%zu: %s\n", file, at, why);
    else
        fprintf(stderr, "trace2json: %s: %s\n", file, why);
    exit(2);
}

static void read_file(const char *name) {
    FILE *in = fopen(name, "r");
    char text[160], peer[16];
    size_t at = 0;
    if (!in) fail(name, 0, strerror(errno));
    while (fgets(text, sizeof text, in)) {
        line l;
        char *end;
        int used = 0;
        memset(&l, 0, sizeof l);
        at++;
        if (sscanf(text, "%" SCNu64 " %" SCNu32 " %11[a-z?] %15s %" SCNu64 " %" SCNu64 "%n", &l.at_ns, &l.rank, l.what,
                   peer, &l.round, &l.value, &used) != 6 ||
            (text[used] != '\n' && text[used] != 0))
            fail(name, at, "not a line of a flight recorder: nanoseconds, rank, what, peer, round, value are expected");
        l.peer = UINT32_MAX;
        if (strcmp(peer, "-") != 0) {
            const unsigned long v = strtoul(peer, &end, 10);
            if (*end || v >= MOST_WORKERS) fail(name, at, "a peer is a number below 4096, or -");
            l.peer = (uint32_t)v;
        }
        if (l.rank >= MOST_WORKERS) fail(name, at, "a rank is a number below 4096");
        if (count == room) {
            room = room ? 2 * room : 1024;
            all = realloc(all, room * sizeof *all);
            if (!all) fail(name, 0, "out of memory");
        }
        all[count++] = l;
    }
    if (ferror(in)) fail(name, 0, strerror(errno));
    fclose(in);
}

static int by_time(const void *a, const void *b) {
    const line *x = a, *y = b;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    return x->at_ns < y->at_ns ? -1 : x->at_ns > y->at_ns;
}

static bool is(const line *l, const char *what) { return strcmp(l->what, what) == 0; }

/* Messages between two workers, counted at both ends: sorted by direction, ends and time. Recorders that have run over
 * lack the first ones; counted from the last, both ends agree as long as all that was sent has come. */
static line **message;
static size_t messages;

static int by_ends(const void *a, const void *b) {
    const line *x = *(line *const *)a, *y = *(line *const *)b;
    const int what = strcmp(x->what, y->what);
    if (what) return what;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    return x->peer < y->peer ? -1 : x->peer > y->peer;
}

static int by_ends_and_number(const void *a, const void *b) {
    const line *x = *(line *const *)a, *y = *(line *const *)b;
    const int ends = by_ends(a, b);
    return ends ? ends : x->number < y->number ? -1 : x->number > y->number;
}

static void number_messages(void) {
    size_t i;
    message = malloc((count + 1) * sizeof *message);
    if (!message) fail("messages", 0, "out of memory");
    for (i = 0; i < count; i++) {
        if (!is(&all[i], "sent") && !is(&all[i], "received")) continue;
        all[i].number = count - i; /* in time, the last first */
        message[messages++] = &all[i];
    }
    qsort(message, messages, sizeof *message, by_ends_and_number);
    for (i = 0; i < messages; i++)
        message[i]->number = i && by_ends(&message[i - 1], &message[i]) == 0 ? message[i - 1]->number + 1 : 0;
}

static const line *sent_of(const line *received) {
    line key = *received, *at = &key, **found;
    strcpy(key.what, "sent");
    key.rank = received->peer;
    key.peer = received->rank;
    found = bsearch(&at, message, messages, sizeof *message, by_ends_and_number);
    return found ? *found : NULL;
}

static int64_t shift[MOST_WORKERS];

static int64_t when(const line *l) { return (int64_t)l->at_ns + shift[l->rank]; }

/* Rows move to the right until no message comes before it was sent, or it is clear that this has no end. */
static void align(void) {
    int turn;
    for (turn = 0; turn < 16; turn++) {
        bool moved = false;
        size_t i;
        for (i = 0; i < count; i++) {
            const line *s = is(&all[i], "received") ? sent_of(&all[i]) : NULL;
            if (!s || when(s) <= when(&all[i])) continue;
            shift[all[i].rank] += when(s) - when(&all[i]);
            moved = true;
        }
        if (!moved) return;
    }
}

static const char *comma = "";

static void begin(const char *ph, const char *name, const line *l, int64_t at) {
    printf("%s\n{\"ph\":\"%s\",\"name\":\"%s\",\"pid\":0,\"tid\":%" PRIu32 ",\"ts\":%.3f", comma, ph, name, l->rank,
           (double)at * 1e-3);
    comma = ",";
}

int main(int argc, char **argv) {
    size_t i, arrows = 0;
    int64_t first = INT64_MAX;
    if (argc < 2 || strcmp(argv[1], "--help") == 0) {
        fputs("trace2json FILE... > run.json\nwhat flight recorders wrote, for chrome://tracing or Perfetto\n",
              argc < 2 ? stderr : stdout);
        return argc < 2 ? 2 : 0;
    }
    for (int f = 1; f < argc; f++) read_file(argv[f]);
    qsort(all, count, sizeof *all, by_time);
    number_messages();
    align();
    for (i = 0; i < count; i++)
        if (when(&all[i]) < first) first = when(&all[i]);
    fputs("{\"traceEvents\":[", stdout);
    for (i = 0; i < count; i++) {
        const line *l = &all[i], *s;
        const int64_t at = when(l) - first;
        char name[64];
        if (i == 0 || all[i - 1].rank != l->rank) {
            begin("M", "thread_name", l, 0);
            printf(",\"args\":{\"name\":\"worker %" PRIu32 "\"}}", l->rank);
        }
        if (is(l, "begun")) {
            size_t j = i + 1;
            while (j < count && all[j].rank == l->rank && !is(&all[j], "committed") && !is(&all[j], "abandoned")) j++;
            if (j == count || all[j].rank != l->rank) continue; /* it has no end here */
            snprintf(name, sizeof name, "round %" PRIu64 " %s", l->round, all[j].what);
            begin("X", name, l, at);
            printf(",\"dur\":%.3f}", (double)(all[j].at_ns - l->at_ns) * 1e-3);
        } else if (!is(l, "committed")) {
            if (l->peer == UINT32_MAX)
                snprintf(name, sizeof name, "%s", l->what);
            else
                snprintf(name, sizeof name, "%s %" PRIu32, l->what, l->peer);
            begin("i", name, l, at);
            printf(",\"s\":\"t\",\"args\":{\"round\":%" PRIu64 ",\"value\":%" PRIu64 "}}", l->round, l->value);
        }
        s = is(l, "received") ? sent_of(l) : NULL;
        if (!s) continue;
        begin("s", "message", s, when(s) - first);
        printf(",\"id\":%zu}", arrows);
        begin("f", "message", l, at);
        printf(",\"bp\":\"e\",\"id\":%zu}", arrows++);
    }
    fputs("\n]}\n", stdout);
    free(message);
    free(all);
    return fflush(stdout) == 0 ? 0 : 1;
}
