/* Whether dictionaries of Python's have the values, and words in memory the numbers, that they had.
 *
 * Called with Python's lock held. A pass of a net leaves none of this in a cache, so lines are fetched some words ahead. */

#include <stddef.h>
#include <stdint.h>

#define AHEAD 32

/* PyDict_Next: the next key and value of a dictionary, neither of which it counts as used. */
typedef int next_entry(void *dictionary, ptrdiff_t *position, void **key, void **value);

struct glance {
    next_entry *next;
    void *const *dictionaries, *const *values; /* those of all dictionaries, one after the other */
    int64_t dictionary_count, value_count;
    const uint64_t *const *words; /* earlier ones say where later ones lie */
    const uint64_t *expected;
    const uint32_t *const *counts;
    const uint32_t *expected_counts;
    int64_t word_count, count_count;
};

static int64_t soon(int64_t i, int64_t count) { return i + AHEAD < count ? i + AHEAD : count - 1; }

static int has_values(const struct glance *g)
{
    int64_t seen = 0;
    for (int64_t i = 0; i < g->dictionary_count; i++) {
        __builtin_prefetch(g->dictionaries[soon(i, g->dictionary_count)], 0, 3);
        void *key, *value;
        for (ptrdiff_t position = 0; g->next(g->dictionaries[i], &position, &key, &value); seen++)
            if (seen == g->value_count || value != g->values[seen])
                return 0;
    }
    return seen == g->value_count;
}

int is_unchanged(const struct glance *g)
{
    if (!has_values(g))
        return 0;
    for (int64_t i = 0; i < g->word_count; i++) {
        __builtin_prefetch(g->words[soon(i, g->word_count)], 0, 3);
        if (*g->words[i] != g->expected[i])
            return 0;
    }
    for (int64_t i = 0; i < g->count_count; i++) {
        __builtin_prefetch(g->counts[soon(i, g->count_count)], 0, 3);
        if (*g->counts[i] != g->expected_counts[i])
            return 0;
    }
    return 1;
}
