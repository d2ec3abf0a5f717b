package lab

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A template is kept as one tar file: unpacking reads it from start to end,
// where copying a tree would open a thousand small files.

// packTree writes the data directory into a tar file, which appears under its
// name only when it is whole. Free space and visibility maps are left out:
// they are a quarter of all files, and the server makes one when it needs it.
func packTree(ctx context.Context, dir, path string) (err error) {
	out, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return nameDiskFull(err)
	}
	defer func() {
		out.Close()
		if err != nil {
			os.Remove(out.Name())
		}
	}()
	buffered := bufio.NewWriterSize(out, 1<<20)
	w := tar.NewWriter(buffered)
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || strings.HasSuffix(path, "_fsm") || strings.HasSuffix(path, "_vm") {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		header, err := tar.FileInfoHeader(info, "")
		if err != nil {
			return err
		}
		header.Name = filepath.ToSlash(rel)
		if err := w.WriteHeader(header); err != nil || entry.IsDir() {
			return err
		}
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		defer in.Close()
		_, err = io.Copy(w, in)
		return err
	})
	if err == nil {
		// Others may share the cache; there is no secret in a template.
		err = errors.Join(w.Close(), buffered.Flush(), out.Chmod(0o644), out.Close())
	}
	if err == nil {
		err = os.Rename(out.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("keep the template: %w", nameDiskFull(err))
	}
	return nil
}

// unpackTree makes the data directory dst, owned by the account, from what
// packTree wrote.
func unpackTree(ctx context.Context, path, dst string, owner account) error {
	in, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open the template: %w", err)
	}
	defer in.Close()
	r := tar.NewReader(bufio.NewReaderSize(in, 1<<20))
	for {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = unpackOne(r, header, dst, owner)
		}
		if err != nil {
			return fmt.Errorf("unpack template %s: %w", path, nameDiskFull(err))
		}
	}
}

func unpackOne(r io.Reader, header *tar.Header, dst string, owner account) error {
	if !filepath.IsLocal(header.Name) {
		return fmt.Errorf("entry %q leads out of it", header.Name)
	}
	target := filepath.Join(dst, header.Name)
	switch header.Typeflag {
	case tar.TypeDir:
		if err := os.Mkdir(target, header.FileInfo().Mode().Perm()); err != nil {
			return err
		}
		return owner.give(target)
	case tar.TypeReg:
		return createFile(target, header.FileInfo().Mode().Perm(), owner, func(out *os.File) error {
			return fill(out, r, header.Name)
		})
	}
	return fmt.Errorf("entry %q is neither a file nor a folder", header.Name)
}
