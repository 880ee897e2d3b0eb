/* A plugin for QEMU's user mode: writes how many instructions a 64-bit Arm program executed to the file out=PATH, a line
 * at each of its calls of getsid(MARK), which does nothing else, and one at its end. Whole blocks are counted where they
 * are entered, so one that a signal leaves in its middle counts whole.
 * What it needs of qemu-plugin.h, by its documentation (QEMU, docs/devel/tcg-plugins.rst, version 1 of the interface). */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
typedef void (*translated)(qemu_plugin_id_t id, struct qemu_plugin_tb *tb);
typedef void (*ended)(qemu_plugin_id_t id, void *data);
typedef void (*called)(qemu_plugin_id_t id, unsigned processor, int64_t number, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                       uint64_t, uint64_t, uint64_t);
enum { INLINE_ADD_U64, GETSID = 156, MARK = 519181, MOST = 1000 };

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, translated callback);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int operation, void *counter, uint64_t add);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t id, called callback);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, ended callback, void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;
static uint64_t executed; /* not atomic: for programs of which one thread works */
static uint64_t marked[MOST];
static int marks;
static char path[4096];

static void count(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
  (void)id;
  qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64, &executed, qemu_plugin_tb_n_insns(tb));
}

static void mark(qemu_plugin_id_t id, unsigned processor, int64_t number, uint64_t first, uint64_t b, uint64_t c, uint64_t d,
                 uint64_t e, uint64_t f, uint64_t g, uint64_t h) {
  (void)id, (void)processor, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
  if (number == GETSID && first == MARK && marks < MOST) marked[marks++] = executed;
}

static void tell(qemu_plugin_id_t id, void *data) {
  (void)id, (void)data;
  FILE *file = fopen(path, "w");
  if (!file) return;
  for (int i = 0; i < marks; i++) fprintf(file, "%llu\n", (unsigned long long)marked[i]);
  fprintf(file, "%llu\n", (unsigned long long)executed);
  fclose(file);
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv) {
  (void)info;
  if (argc != 1 || strncmp(argv[0], "out=", 4) || strlen(argv[0]) >= sizeof path) return -1;
  strcpy(path, argv[0] + 4);
  qemu_plugin_register_vcpu_tb_trans_cb(id, count);
  qemu_plugin_register_vcpu_syscall_cb(id, mark);
  qemu_plugin_register_atexit_cb(id, tell, NULL);
  return 0;
}
