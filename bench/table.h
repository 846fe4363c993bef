/* SPDX-License-Identifier: MIT
 * table.h: a Markdown table whose columns are padded, so that it also reads well as plain text. */
#ifndef BENCH_TABLE_H
#define BENCH_TABLE_H

#include "report.h"

enum { TABLE_COLUMNS = 16, TABLE_ROWS = 256, TABLE_CELL = 160 };

typedef struct table {
    int columns, rows;
    int right[TABLE_COLUMNS]; /* numbers stand to the right */
    char cell[TABLE_ROWS][TABLE_COLUMNS][TABLE_CELL];
    int at; /* column of the next cell in the last row */
} table;

/* Titles separated by '|'; a title that begins with '>' is of a column of numbers. The first row of the table. */
static inline table *table_new(const char *titles) {
    table *t = (table *)calloc(1, sizeof *t);
    if (!t) exit(1);
    t->rows = 1;
    while (*titles && t->columns < TABLE_COLUMNS) {
        const size_t n = strcspn(titles, "|");
        t->right[t->columns] = *titles == '>';
        snprintf(t->cell[0][t->columns], TABLE_CELL, "%.*s", (int)n - t->right[t->columns],
                 titles + t->right[t->columns]);
        t->columns++;
        titles += n + (titles[n] == '|');
    }
    return t;
}

static inline void table_row(table *t) {
    if (t->rows < TABLE_ROWS) t->rows++;
    t->at = 0;
}

__attribute__((format(printf, 2, 3))) static inline void table_cell(table *t, const char *format, ...) {
    va_list a;
    if (t->at == t->columns) return;
    va_start(a, format);
    vsnprintf(t->cell[t->rows - 1][t->at++], TABLE_CELL, format, a);
    va_end(a);
}

/* How many decimals show three digits of v > 0. */
static inline int table_decimals(double v) {
    const double places = 2 - floor(log10(v * 1.0005));
    return !(places > 0) ? 0 : places > 9 ? 9 : (int)places;
}

/* `v` with three digits; "-" where there is no number. */
static inline void table_number(table *t, double v, const char *unit) {
    if (!isfinite(v)) table_cell(t, "-");
    else table_cell(t, "%.*f%s", v > 0 ? table_decimals(v) : 0, v, unit);
}

/* The quartiles. */
static inline void table_range(table *t, double low, double high) {
    const int decimals = low > 0 ? table_decimals(low) : 0;
    table_cell(t, "%.*f to %.*f", decimals, low, decimals, high);
}

/* Prints the table and frees it. */
static inline void table_print(table *t, report *r) {
    int width[TABLE_COLUMNS] = {0}, row, column;
    for (column = 0; column < t->columns; column++) {
        width[column] = 3;
        for (row = 0; row < t->rows; row++) {
            const int n = (int)strlen(t->cell[row][column]);
            if (n > width[column]) width[column] = n;
        }
    }
    for (row = 0; row < t->rows; row++) {
        for (column = 0; column < t->columns; column++)
            report_say(r, t->right[column] ? "| %*s " : "| %-*s ", width[column], t->cell[row][column]);
        report_say(r, "|\n");
        if (row) continue;
        for (column = 0; column < t->columns; column++) {
            int i;
            report_say(r, "| ");
            for (i = 1; i < width[column]; i++) report_say(r, "-");
            report_say(r, t->right[column] ? ": " : "- ");
        }
        report_say(r, "|\n");
    }
    report_say(r, "\n");
    free(t);
}

#endif
