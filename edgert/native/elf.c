/* Loads freestanding code into a program that has no dynamic linker: strict, and no page both writable and executable.
 * Source: System V ABI, chapters 4 and 5, and each machine's supplement for its one relocation, "base plus addend". */
#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "opened.h"

#if __SIZEOF_POINTER__ == 8
#define ELF(name) Elf64_##name
enum { CLASS = ELFCLASS64 };
#else
#define ELF(name) Elf32_##name
enum { CLASS = ELFCLASS32 };
#endif
#if defined(__x86_64__)
enum { MACHINE = EM_X86_64, RELATIVE = R_X86_64_RELATIVE };
#elif defined(__aarch64__)
enum { MACHINE = EM_AARCH64, RELATIVE = R_AARCH64_RELATIVE };
#elif defined(__arm__)
enum { MACHINE = EM_ARM, RELATIVE = R_ARM_RELATIVE };
#elif defined(__riscv)
enum { MACHINE = EM_RISCV, RELATIVE = 3 /* R_RISCV_RELATIVE */ };
#endif
enum { PAGE = 4096, MOST_SEGMENTS = 16, MOST_IMAGE = 1 << 30 };

typedef struct {
  const uint8_t *file;
  uint64_t size; /* of the file */
  ELF(Phdr) segments[MOST_SEGMENTS];
  int count;
  uint64_t image, page;
  uint8_t *base; /* where the image is mapped */
  uint64_t dynamic, dynamic_size, relro, relro_end;
  uint64_t hash, gnu_hash, symbols, strings, strings_size, rela, rela_size, rel, rel_size;
} loading;

/* Bytes of the image that a segment's file bytes fill, or NULL. Before relocation the same as in the file. */
static uint8_t *at(const loading *l, uint64_t address, uint64_t bytes) {
  for (int i = 0; i < l->count; i++) {
    const ELF(Phdr) *p = &l->segments[i];
    if (p->p_type == PT_LOAD && address >= p->p_vaddr && bytes <= p->p_memsz && address - p->p_vaddr <= p->p_memsz - bytes)
      return l->base + address;
  }
  return NULL;
}

static const char *read_headers(loading *l) {
  ELF(Ehdr) header;
  if (l->size < sizeof header) return "it is too short";
  memcpy(&header, l->file, sizeof header);
  if (memcmp(header.e_ident, ELFMAG, SELFMAG) || header.e_ident[EI_CLASS] != CLASS || header.e_ident[EI_DATA] != ELFDATA2LSB ||
      header.e_type != ET_DYN)
    return "it is no shared object of this machine's kind";
  if (header.e_machine != MACHINE) return "it is for another machine";
  if (header.e_phentsize != sizeof(ELF(Phdr)) || header.e_phnum > MOST_SEGMENTS || header.e_phoff > l->size ||
      header.e_phnum * sizeof(ELF(Phdr)) > l->size - header.e_phoff)
    return "its headers are damaged";
  memcpy(l->segments, l->file + header.e_phoff, header.e_phnum * sizeof(ELF(Phdr)));
  l->count = header.e_phnum;
  for (int i = 0; i < l->count; i++) {
    const ELF(Phdr) *p = &l->segments[i];
    if (p->p_type == PT_INTERP || p->p_type == PT_TLS) return "it is not freestanding";
    if (p->p_type == PT_GNU_STACK && p->p_flags & PF_X) return "it wants a stack that can be executed";
    if (p->p_type == PT_DYNAMIC) l->dynamic = p->p_vaddr, l->dynamic_size = p->p_memsz;
    if (p->p_type == PT_GNU_RELRO) l->relro = p->p_vaddr, l->relro_end = (uint64_t)p->p_vaddr + p->p_memsz;
    if (p->p_type != PT_LOAD) continue;
    if (p->p_flags & PF_W && p->p_flags & PF_X) return "it has a segment that is writable and executable";
    if (p->p_filesz > p->p_memsz || p->p_offset > l->size || p->p_filesz > l->size - p->p_offset || p->p_memsz > MOST_IMAGE ||
        p->p_vaddr > MOST_IMAGE)
      return "its segments are damaged";
    /* Each on pages of its own, in order: pages have one protection. */
    if (p->p_vaddr / l->page * l->page < l->image) return "its segments share pages or are out of order";
    l->image = ((uint64_t)p->p_vaddr + p->p_memsz + l->page - 1) / l->page * l->page;
  }
  return l->image && l->dynamic ? NULL : "its segments are damaged";
}

static const char *read_dynamic(loading *l) {
  for (uint64_t offset = 0;; offset += sizeof(ELF(Dyn))) {
    const uint8_t *from = at(l, l->dynamic + offset, sizeof(ELF(Dyn)));
    ELF(Dyn) entry;
    if (!from || offset + sizeof entry > l->dynamic_size) return "its dynamic section is damaged";
    memcpy(&entry, from, sizeof entry);
    uint64_t value = entry.d_un.d_val;
    switch (entry.d_tag) {
      case DT_NULL: return NULL;
      case DT_HASH: l->hash = value; break;
      case DT_GNU_HASH: l->gnu_hash = value; break;
      case DT_SYMTAB: l->symbols = value; break;
      case DT_STRTAB: l->strings = value; break;
      case DT_STRSZ: l->strings_size = value; break;
      case DT_RELA: l->rela = value; break;
      case DT_RELASZ: l->rela_size = value; break;
      case DT_REL: l->rel = value; break;
      case DT_RELSZ: l->rel_size = value; break;
      case DT_NEEDED: case DT_JMPREL: case DT_TEXTREL: case DT_INIT: case DT_INIT_ARRAY: case DT_PREINIT_ARRAY: case 36: /* RELR */
        return "it is not freestanding";
      default: break;
    }
  }
}

static const char *relocate(const loading *l, uint64_t from, uint64_t bytes, size_t entry_size, int explicit_addend) {
  for (uint64_t done = 0; done + entry_size <= bytes; done += entry_size) {
    ELF(Rela) entry = {0};
    const uint8_t *source = at(l, from + done, entry_size);
    if (!source) return "its relocations are damaged";
    memcpy(&entry, source, entry_size);
    uintptr_t word, *target = (uintptr_t *)at(l, entry.r_offset, sizeof word);
    if (entry.r_info != RELATIVE) return "it needs a symbol from elsewhere";
    if (!target) return "its relocations are damaged";
    memcpy(&word, target, sizeof word);
    if (explicit_addend) word = (uintptr_t)entry.r_addend;
    if (word > l->image) return "its relocations are damaged";
    word += (uintptr_t)l->base;
    memcpy(target, &word, sizeof word);
  }
  return NULL;
}

/* How many dynamic symbols there are: the old table of hashes tells; of the new one, where the last chain ends. */
static uint64_t symbol_count(const loading *l) {
  uint32_t head[4], word;
  const uint8_t *from;
  if (l->hash && (from = at(l, l->hash, 8))) return memcpy(head, from, 8), head[1];
  if (!l->gnu_hash || !(from = at(l, l->gnu_hash, 16))) return 0;
  memcpy(head, from, 16); /* buckets, first symbol, words of the filter, shift */
  uint64_t buckets = l->gnu_hash + 16 + head[2] * (uint64_t)sizeof(uintptr_t), chains = buckets + 4 * (uint64_t)head[0], last = 0;
  for (uint64_t i = 0; i < head[0]; i++) {
    if (!(from = at(l, buckets + 4 * i, 4))) return 0;
    memcpy(&word, from, 4);
    if (word > last) last = word;
  }
  if (last < head[1]) return head[1];
  for (;; last++) {
    if (!(from = at(l, chains + 4 * (last - head[1]), 4))) return 0;
    memcpy(&word, from, 4);
    if (word & 1) return last + 1;
  }
}

static void *find(const loading *l, const char *name, const char **fault) {
  uint64_t count = symbol_count(l);
  size_t length = strlen(name) + 1;
  void *found = NULL;
  *fault = "its table of symbols is damaged";
  for (uint64_t i = 1; i < count; i++) {
    ELF(Sym) symbol;
    const uint8_t *from = at(l, l->symbols + i * sizeof symbol, sizeof symbol);
    if (!from) return NULL;
    memcpy(&symbol, from, sizeof symbol);
    if (symbol.st_shndx == SHN_UNDEF) return *fault = "it needs a symbol from elsewhere", NULL;
    if (symbol.st_name > l->strings_size || length > l->strings_size - symbol.st_name) continue;
    const uint8_t *text = at(l, l->strings + symbol.st_name, length);
    if (text && !memcmp(text, name, length)) found = at(l, symbol.st_value & ~(uint64_t)1, 4) ? l->base + symbol.st_value : NULL;
  }
  *fault = found ? NULL : "it does not define its entry";
  for (int i = 0; i < l->count && found; i++) {
    const ELF(Phdr) *p = &l->segments[i];
    uint64_t address = (uint64_t)((uint8_t *)found - l->base);
    if (p->p_type == PT_LOAD && address >= p->p_vaddr && address < (uint64_t)p->p_vaddr + p->p_memsz && !(p->p_flags & PF_X))
      *fault = "its entry is no code";
  }
  return *fault ? NULL : found;
}

static const char *protect(const loading *l) {
  for (int i = 0; i < l->count; i++) {
    const ELF(Phdr) *p = &l->segments[i];
    if (p->p_type != PT_LOAD || !p->p_memsz) continue;
    uint64_t start = p->p_vaddr / l->page * l->page, end = ((uint64_t)p->p_vaddr + p->p_memsz + l->page - 1) / l->page * l->page;
    int sealed = l->relro <= p->p_vaddr && (uint64_t)p->p_vaddr + p->p_memsz <= l->relro_end;
    int flags = PROT_READ | (p->p_flags & PF_W && !sealed ? PROT_WRITE : 0) | (p->p_flags & PF_X ? PROT_EXEC : 0);
    if (flags & PROT_EXEC) __builtin___clear_cache((char *)l->base + start, (char *)l->base + end);
    if (mprotect(l->base + start, end - start, flags)) return strerror(errno);
  }
  return NULL;
}

void *load_code(const uint8_t *file, size_t size, const char *entry, const char **fault) {
  loading l = {.file = file, .size = size, .page = (uint64_t)sysconf(_SC_PAGESIZE)};
  if ((*fault = read_headers(&l))) return NULL;
  l.base = anonymous((int64_t)l.image, "the model's code");
  for (int i = 0; i < l.count; i++)
    if (l.segments[i].p_type == PT_LOAD) memcpy(l.base + l.segments[i].p_vaddr, file + l.segments[i].p_offset, l.segments[i].p_filesz);
  if ((*fault = read_dynamic(&l)) || (*fault = relocate(&l, l.rela, l.rela_size, sizeof(ELF(Rela)), 1)) ||
      (*fault = relocate(&l, l.rel, l.rel_size, sizeof(ELF(Rel)), 0)))
    return NULL;
  void *found = find(&l, entry, fault);
  return found && !(*fault = protect(&l)) ? found : NULL;
}
