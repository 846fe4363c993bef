/* SPDX-License-Identifier: MIT
 * cJSON.h: what the golden programs use of cJSON, for machines that it is not installed for. Reads the golden vectors:
 * no escapes but \" \\ \/ and \n. Prints lists of texts, whole numbers and words. */
#ifndef CROSS_CJSON_H
#define CROSS_CJSON_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct cJSON {
    struct cJSON *next, *child;
    char kind; /* [ { " 0 t f n */
    char *valuestring, *string;
    double valuedouble;
} cJSON;

static inline void cJSON_Delete(cJSON *j) {
    while (j) {
        cJSON *next = j->next;
        cJSON_Delete(j->child);
        free(j->valuestring);
        free(j->string);
        free(j);
        j = next;
    }
}

static inline const char *cross_space(const char *p) {
    return p + strspn(p, " \t\r\n");
}

/* *p stands at the quote, and behind the other one afterwards; NULL: that is not there. */
static inline char *cross_text(const char **p) {
    const char *s = *p + 1;
    char *text = (char *)malloc(strlen(s) + 1), *to = text;
    while (text && *s && *s != '"') {
        if (*s != '\\') {
            *to++ = *s++;
        } else {
            if (!strchr("\"\\/n", s[1]) || !s[1]) break;
            *to++ = (char)(s[1] == 'n' ? '\n' : s[1]);
            s += 2;
        }
    }
    if (!text || *s != '"') {
        free(text);
        return NULL;
    }
    *to = 0;
    *p = s + 1;
    return text;
}

static inline cJSON *cross_json(const char **p, int depth);

/* What stands between brackets. */
static inline int cross_members(const char **p, cJSON *j, int depth) {
    const char end = j->kind == '[' ? ']' : '}';
    cJSON **last = &j->child;
    *p = cross_space(*p + 1);
    if (**p == end) return (*p)++, 1;
    for (;;) {
        char *name = NULL;
        if (j->kind == '{') {
            if (**p != '"' || !(name = cross_text(p))) return 0;
            *p = cross_space(*p);
            if (*(*p)++ != ':') return free(name), 0;
        }
        if (!(*last = cross_json(p, depth + 1))) return free(name), 0;
        (*last)->string = name;
        last = &(*last)->next;
        *p = cross_space(*p);
        if (**p == end) return (*p)++, 1;
        if (*(*p)++ != ',') return 0;
        *p = cross_space(*p);
    }
}

static inline cJSON *cross_json(const char **p, int depth) {
    static const char *const words[3] = {"true", "false", "null"};
    cJSON *j = (cJSON *)calloc(1, sizeof *j);
    int ok = 0, i;
    *p = cross_space(*p);
    if (!j || depth > 100) return free(j), (cJSON *)NULL;
    j->kind = **p;
    if (**p == '[' || **p == '{') {
        ok = cross_members(p, j, depth);
    } else if (**p == '"') {
        ok = (j->valuestring = cross_text(p)) != NULL;
    } else if (strchr("-0123456789", **p) && **p) {
        char *end;
        j->valuedouble = strtod(*p, &end);
        j->kind = '0';
        ok = end != *p;
        *p = end;
    } else {
        for (i = 0; i < 3 && !ok; i++)
            if (strncmp(*p, words[i], strlen(words[i])) == 0) {
                *p += strlen(words[i]);
                ok = 1;
            }
    }
    if (ok) return j;
    cJSON_Delete(j);
    return NULL;
}

static inline cJSON *cJSON_Parse(const char *text) { return cross_json(&text, 0); }

static inline cJSON *cJSON_ParseWithLength(const char *text, size_t bytes) {
    char *copy = (char *)malloc(bytes + 1);
    cJSON *j;
    if (!copy) return NULL;
    memcpy(copy, text, bytes);
    copy[bytes] = 0;
    j = cJSON_Parse(copy);
    free(copy);
    return j;
}

#define cJSON_ArrayForEach(item, list) for ((item) = (list) ? (list)->child : NULL; (item); (item) = (item)->next)

static inline int cJSON_GetArraySize(const cJSON *j) {
    const cJSON *c;
    int n = 0;
    cJSON_ArrayForEach(c, j) n++;
    return n;
}

static inline cJSON *cJSON_GetArrayItem(const cJSON *j, int i) {
    cJSON *c;
    cJSON_ArrayForEach(c, j) if (i-- == 0) return c;
    return NULL;
}

static inline cJSON *cJSON_GetObjectItemCaseSensitive(const cJSON *j, const char *name) {
    cJSON *c;
    cJSON_ArrayForEach(c, j) if (c->string && strcmp(c->string, name) == 0) return c;
    return NULL;
}

static inline int cross_is(const cJSON *j, char kind) { return j && j->kind == kind; }
static inline int cJSON_IsArray(const cJSON *j) { return cross_is(j, '['); }
static inline int cJSON_IsObject(const cJSON *j) { return cross_is(j, '{'); }
static inline int cJSON_IsString(const cJSON *j) { return cross_is(j, '"'); }
static inline int cJSON_IsNumber(const cJSON *j) { return cross_is(j, '0'); }
static inline double cJSON_GetNumberValue(const cJSON *j) { return cJSON_IsNumber(j) ? j->valuedouble : NAN; }
static inline int cJSON_IsNull(const cJSON *j) { return cross_is(j, 'n'); }
static inline int cJSON_IsTrue(const cJSON *j) { return cross_is(j, 't'); }
static inline int cJSON_IsBool(const cJSON *j) { return cross_is(j, 't') || cross_is(j, 'f'); }

/* j into *at; NULL: it is none of the kinds that this prints, or longer than the room up to `end`. */
static inline char *cross_print(const cJSON *j, char *at, const char *end) {
    const cJSON *c;
    int n = 0;
    if (!j || end - at < 3) return NULL;
    switch (j->kind) {
    case '[':
        *at++ = '[';
        for (c = j->child; c; c = c->next) {
            if (!(at = cross_print(c, at, end))) return NULL;
            if (c->next) *at++ = ',';
        }
        *at++ = ']';
        *at = 0;
        return at;
    case '"':
        if (strpbrk(j->valuestring, "\"\\\n")) return NULL;
        n = snprintf(at, (size_t)(end - at), "\"%s\"", j->valuestring);
        break;
    case '0':
        if (j->valuedouble != (double)(int)j->valuedouble) return NULL;
        n = snprintf(at, (size_t)(end - at), "%d", (int)j->valuedouble);
        break;
    case 't':
    case 'f':
    case 'n':
        n = snprintf(at, (size_t)(end - at), "%s", j->kind == 't' ? "true" : j->kind == 'f' ? "false" : "null");
        break;
    default: return NULL;
    }
    return n > 0 && n < end - at - 2 ? at + n : NULL;
}

static inline char *cJSON_PrintUnformatted(const cJSON *j) {
    char *text = (char *)malloc(4096);
    if (text && cross_print(j, text, text + 4096)) return text;
    free(text);
    return NULL;
}

static inline void cJSON_free(void *text) { free(text); }

#endif
