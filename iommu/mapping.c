/*
 * A treap: a search tree by iova that is a heap by random priorities, which keeps it flat whatever
 * the order in which a guest maps.
 */
#include "iommu/iommu_impl.h"

size_t mapping_count(const struct mapping *root)
{
    return root ? root->count : 0;
}

static void count(struct mapping *n)
{
    n->count = 1 + mapping_count(n->left) + mapping_count(n->right);
}

/* What lies before `iova`, and the rest. */
static void split(struct mapping *n, uint64_t iova, struct mapping **before, struct mapping **rest)
{
    if (!n) {
        *before = NULL;
        *rest = NULL;
        return;
    }
    if (n->m.iova.v < iova) {
        split(n->right, iova, &n->right, rest);
        *before = n;
    } else {
        split(n->left, iova, before, &n->left);
        *rest = n;
    }
    count(n);
}

/* All of `a` lies before all of `b`. */
static struct mapping *join(struct mapping *a, struct mapping *b)
{
    if (!a || !b)
        return a ? a : b;
    if (a->priority > b->priority) {
        a->right = join(a->right, b);
        count(a);
        return a;
    }
    b->left = join(a, b->left);
    count(b);
    return b;
}

void mapping_insert(struct mapping **root, struct mapping *n)
{
    while (*root && (*root)->priority >= n->priority) {
        (*root)->count++;
        root = n->m.iova.v < (*root)->m.iova.v ? &(*root)->left : &(*root)->right;
    }
    split(*root, n->m.iova.v, &n->left, &n->right);
    count(n);
    *root = n;
}

struct mapping *mapping_remove(struct mapping **root, uint64_t iova)
{
    struct mapping *n;

    /* It is there: the caller looked it up. */
    while ((*root)->m.iova.v != iova) {
        (*root)->count--;
        root = iova < (*root)->m.iova.v ? &(*root)->left : &(*root)->right;
    }
    n = *root;
    *root = join(n->left, n->right);
    return n;
}

const struct mapping *mapping_first(const struct mapping *root, uint64_t iova)
{
    const struct mapping *found = NULL;

    while (root) {
        if (root->m.iova.v + (root->m.len - 1) >= iova) {
            found = root;
            root = root->left;
        } else {
            root = root->right;
        }
    }
    return found;
}

const struct mapping *mapping_nth(const struct mapping *root, size_t n)
{
    while (root) {
        size_t before = mapping_count(root->left);

        if (n == before)
            return root;
        if (n < before) {
            root = root->left;
        } else {
            n -= before + 1;
            root = root->right;
        }
    }
    return NULL;
}
