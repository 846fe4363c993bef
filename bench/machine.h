/* SPDX-License-Identifier: MIT
 * machine.h: what the numbers were measured on: processor, caches, memory, kernel, compiler. No names of hosts. */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include "report.h"

#include <ctype.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

typedef struct machine {
    char date[32], processor[128], caches[256], kernel[64], compiler[128];
    int processors;
    double memory_gib;
} machine;

/* The first line of a file, without its end; empty if there is none. */
static inline void machine_line(const char *path, char *line, size_t size) {
    FILE *f = fopen(path, "r");
    line[0] = 0;
    if (!f) return;
    if (fgets(line, (int)size, f)) line[strcspn(line, "\n")] = 0;
    fclose(f);
}

static inline void machine_processor(machine *m) {
    FILE *f = fopen("/proc/cpuinfo", "r");
    char line[256];
    snprintf(m->processor, sizeof m->processor, "unknown processor");
    if (!f) return;
    while (fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (!colon || (strncmp(line, "model name", 10) && strncmp(line, "CPU part", 8))) continue;
        colon[strcspn(colon, "\n")] = 0;
        snprintf(m->processor, sizeof m->processor, "%.120s", colon + 2);
        break;
    }
    fclose(f);
}

/* "L1 32K, L2 1024K, L3 32768K", with how many processors share each */
static inline void machine_caches(machine *m) {
    int i;
    size_t used = 0;
    m->caches[0] = 0;
    for (i = 0; i < 8; i++) {
        char path[128], level[16], type[32], size[32], shared[64];
        int sharers = 0;
        const char *p;
#define MACHINE_FIELD(name, into)                                                                                      \
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/" name, i);                                \
    machine_line(path, into, sizeof into);
        MACHINE_FIELD("level", level)
        MACHINE_FIELD("type", type)
        MACHINE_FIELD("size", size)
        MACHINE_FIELD("shared_cpu_list", shared)
#undef MACHINE_FIELD
        if (!level[0] || !strcmp(type, "Instruction")) continue;
        for (p = shared; *p;) { /* "0-1,4" */
            char *end;
            const long from = strtol(p, &end, 10);
            long to = from;
            if (end == p) break;
            if (*end == '-') to = strtol(end + 1, &end, 10);
            sharers += (int)(to - from + 1);
            p = *end == ',' ? end + 1 : end;
        }
        used += (size_t)snprintf(m->caches + used, sizeof m->caches - used, "%sL%s %s for %d", used ? ", " : "", level,
                                 size, sharers);
        if (used >= sizeof m->caches) break;
    }
}

static inline void machine_describe(machine *m) {
    struct utsname u;
    const time_t now = time(NULL);
    size_t n;
    memset(m, 0, sizeof *m);
    strftime(m->date, sizeof m->date, "%Y-%m-%d", gmtime(&now));
    machine_processor(m);
    machine_caches(m);
    m->processors = (int)sysconf(_SC_NPROCESSORS_ONLN);
    m->memory_gib = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / (1 << 30);
    if (!uname(&u)) { /* the number alone: what follows it is of whoever has built the kernel */
        for (n = 0; isdigit((unsigned char)u.release[n]) || u.release[n] == '.'; n++) continue;
        snprintf(m->kernel, sizeof m->kernel, "%.30s %.*s", u.sysname, (int)n, u.release);
    }
#if defined __clang__
    snprintf(m->compiler, sizeof m->compiler, "%s", __VERSION__);
#else
    snprintf(m->compiler, sizeof m->compiler, "gcc %s", __VERSION__);
#endif
}

static inline void machine_report(const machine *m, report *r) {
    report_say(r, "- %s; %s, %d processors; caches: %s; %.0f GiB of memory; %s; %s\n", m->date, m->processor,
               m->processors, m->caches[0] ? m->caches : "unknown", m->memory_gib, m->kernel, m->compiler);
}

/* The fields of a row, so that each row says by itself where it comes from. */
static inline void machine_row(const machine *m, json *j) {
    json_begin(j, "machine", '{');
    json_text(j, "processor", m->processor);
    json_integer(j, "processors", m->processors);
    json_text(j, "caches", m->caches);
    json_number(j, "memory_gib", m->memory_gib);
    json_text(j, "kernel", m->kernel);
    json_text(j, "compiler", m->compiler);
    json_end(j, '}');
}

#endif
