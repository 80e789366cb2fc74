package registry

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/assent-dev/assent/internal/registry/strictyaml"
)

// SecretRef says where a secret is: "env:NAME" in the environment, "file:PATH"
// in a file. It is no secret itself and may be logged.
type SecretRef string

// Secrets resolves a reference. It reads anew at each call, so that a rotated
// file counts without a restart. An error names the reference, never a value.
type Secrets func(SecretRef) (string, error)

// maxSecretBytes bounds a secret's file.
const maxSecretBytes = 64 << 10

// SecretsFrom resolves env: through lookupEnv (the environment is its caller's
// to read) and file: from disk. Line ends around a secret are taken away.
func SecretsFrom(lookupEnv func(name string) (string, bool)) Secrets {
	return func(ref SecretRef) (string, error) {
		kind, name, _ := strings.Cut(string(ref), ":")
		var secret string
		switch kind {
		case "env":
			secret, _ = lookupEnv(name)
		case "file":
			data, err := readSecret(name)
			if err != nil {
				return "", fmt.Errorf("secret %s: %w", ref, err)
			}
			secret = string(data)
		default:
			return "", errors.New("a secret is named as env:NAME or file:PATH")
		}
		if secret = strings.Trim(secret, "\r\n"); secret == "" {
			return "", fmt.Errorf("secret %s is not set, or empty", ref)
		}
		return secret, nil
	}
}

func readSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, plain(err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxSecretBytes+1))
	switch {
	case err != nil:
		return nil, plain(err)
	case len(data) > maxSecretBytes:
		return nil, fmt.Errorf("larger than %d KiB", maxSecretBytes>>10)
	}
	return data, nil
}

// plain takes the path out of an error that is told beside it.
func plain(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// secretRef reads a reference. Its sentences never show the value: it may be
// the secret itself, written here by mistake.
func readSecretRef(v strictyaml.Value) (SecretRef, bool) {
	s, ok := v.Scalar("a reference such as env:NAME or file:PATH")
	if !ok {
		return "", false
	}
	kind, name, _ := strings.Cut(s, ":")
	switch {
	case kind == "env" && envName.MatchString(name):
		return SecretRef(s), true
	case kind == "env":
		v.Fault("env: wants the name of a variable, of letters, digits and _")
	case kind == "file" && name != "":
		return SecretRef("file:" + beside(v.File(), name)), true
	case kind == "file":
		v.Fault("file: wants a path")
	case kind == "cmd":
		v.Fault("cmd: is not read by this version: use env:NAME or file:PATH")
	default:
		v.Fault("a secret is never written into this file: name it as env:NAME or file:PATH, and change one that was written here")
	}
	return "", false
}

// beside gives a path that the file called name names, which is relative to that
// file's own folder.
func beside(name, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(name), path)
}
