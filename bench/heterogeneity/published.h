/* SPDX-License-Identifier: MIT
 * published.h: the cut into equal parts, checked against what a published code has made of its own draws: which classes
 * its agents had before, and after. (The draws themselves are of another generator.) */
#ifndef HETEROGENEITY_PUBLISHED_H
#define HETEROGENEITY_PUBLISHED_H

#include "shares.h"

#include <ctype.h>
#include <stdio.h>

/* The numbers of the list of lists that follows `name`, from *at on; how many. *at: behind it, or NULL. */
static inline size_t published_numbers(const char **at, const char *name, size_t *out, size_t most) {
    const char *p = strstr(*at, name);
    size_t n = 0;
    int depth = 0;
    if (!p) {
        *at = NULL;
        return 0;
    }
    for (p = strchr(p, '['); p && *p; p++) {
        depth += (*p == '[') - (*p == ']');
        if (!depth) break;
        if (isdigit((unsigned char)*p)) {
            char *end;
            const unsigned long v = strtoul(p, &end, 10);
            if (n < most) out[n++] = v;
            p = end - 1;
        }
    }
    *at = p;
    return n;
}

/* 0: all as published. */
static inline int shares_check(const char *path) {
    enum { MOST = SHARES_MOST * SHARES_CLASSES, TEXT = 1 << 20 };
    static size_t before[MOST], after[MOST];
    static char text[TEXT];
    FILE *f = fopen(path, "rb");
    const char *at = text;
    size_t cases = 0, wrong = 0, n;
    if (!f) bad_input("%s: it cannot be read", path);
    text[fread(text, 1, TEXT - 1, f)] = 0;
    fclose(f);
    while ((n = published_numbers(&at, "\"dirichlet_counts\"", before, MOST)) > 0 && at &&
           published_numbers(&at, "\"equal_cut_counts\"", after, MOST) == n && at) {
        const size_t agents = n / SHARES_CLASSES;
        size_t all = 0, bad = 0, k = 0;
        for (size_t i = 0; i < n; i++) all += before[i];
        uint8_t *label = (uint8_t *)new_array(all, 1);
        uint32_t *image = (uint32_t *)new_array(all, sizeof *image);
        partition p;
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < before[i]; j++, k++) {
                label[k] = (uint8_t)(i % SHARES_CLASSES);
                image[k] = (uint32_t)k;
            }
        shares_cut(&p, image, agents, all / agents);
        for (size_t a = 0; a < agents; a++) {
            size_t count[SHARES_CLASSES] = {0};
            for (size_t i = 0; i < p.count[a]; i++) count[label[p.index[a][i]]]++;
            for (size_t c = 0; c < SHARES_CLASSES; c++) bad += count[c] != after[a * SHARES_CLASSES + c];
        }
        partition_free(&p);
        free(label);
        free(image);
        cases++;
        wrong += bad > 0;
        printf("%zu agents, %zu images: %s\n", agents, all, bad ? "differs" : "as published");
    }
    if (!cases) bad_input("%s: nothing of a partition in it", path);
    return wrong ? 1 : 0;
}

#endif
