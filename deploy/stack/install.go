package stack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Installer brings software into the cache, each item once: a stamp file holds
// the recipe that a complete item was made by.
type Installer struct {
	Config *Config
	Cache  string // see CacheDir
	Log    *slog.Logger
}

// attempts is how often a download is tried.
const attempts = 3

// Install brings in what the named groups need. Several processes may call it at
// the same time; one works and the others wait.
func (in *Installer) Install(ctx context.Context, groups []string) error {
	unlock, err := in.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := in.system(ctx, groups); err != nil {
		return err
	}
	for _, it := range in.items() {
		if !slices.Contains(groups, it.group) {
			continue
		}
		if err := in.once(ctx, it); err != nil {
			return fmt.Errorf("cannot install %s into %s: %w", it.name, in.Cache, err)
		}
	}
	return nil
}

// item is one thing in the cache.
type item struct {
	group  string
	name   string // path in the cache
	recipe any    // a change of it installs the item again
	make   func(ctx context.Context, path string) error
}

func (in *Installer) items() []item {
	jars := func(group, name string) item {
		name, set := in.jarSet(name)
		source := ""
		if set.Main != "" {
			source = catalogServerJava
		}
		return item{group, filepath.Join("jars", name), []any{set, source}, func(ctx context.Context, path string) error { return in.makeJars(ctx, path, set) }}
	}
	venv := func(group, name string) item {
		packages := in.Config.Python[name]
		return item{group, filepath.Join("venv", name), packages, func(ctx context.Context, path string) error { return in.makeVenv(ctx, path, packages) }}
	}
	program := func(group, name string) item {
		return item{group, filepath.Join("go", name), in.Config.Go[name], func(ctx context.Context, path string) error { return in.makeProgram(ctx, path, in.Config.Go[name]) }}
	}
	packages := func(group, name string) item {
		return item{group, filepath.Join("deb", name), in.Config.Debian[name], func(ctx context.Context, path string) error { return in.makeDebian(ctx, path, in.Config.Debian[name]) }}
	}
	return []item{
		jars(Core, "kafka"), jars(Core, "registry"), program(Core, "minio"), jars(Core, "catalog"), jars(Core, "jmx"),
		jars(Spark, "spark"), venv(Spark, "spark"),
		packages(Monitoring, "prometheus"), packages(Monitoring, "prometheus-alertmanager"),
		venv(Airflow, "airflow"), venv(Superset, "superset"),
	}
}

// jarSet gives the set of a name, or the one to use instead of it where no Java
// is new enough.
func (in *Installer) jarSet(name string) (string, JarSet) {
	set := in.Config.Jars[name]
	if set.Instead != "" {
		if _, err := javaHome(set.Java); err != nil {
			return in.jarSet(set.Instead)
		}
	}
	return name, set
}

func (in *Installer) lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(in.Cache, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the cache: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(in.Cache, "install.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot lock the cache: %w", err)
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("cannot lock the cache: %w", err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// once makes an item unless a complete one of the same recipe is there.
func (in *Installer) once(ctx context.Context, it item) error {
	recipe, err := json.Marshal(it.recipe)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(recipe)
	want := hex.EncodeToString(sum[:])
	path := filepath.Join(in.Cache, it.name)
	stamp := filepath.Join(path, ".complete")
	if have, err := os.ReadFile(stamp); err == nil && string(have) == want {
		return nil
	}
	in.Log.Info("installing", "item", it.name)
	began := time.Now()
	for attempt := 1; ; attempt++ {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
		err := it.make(ctx, path)
		if err == nil {
			break
		}
		if attempt == attempts || ctx.Err() != nil {
			return err
		}
		in.Log.Warn("trying again", "item", it.name, "error", err)
	}
	in.Log.Info("installed", "item", it.name, "seconds", int(time.Since(began).Seconds()))
	return os.WriteFile(stamp, []byte(want), 0o644)
}

// makeJars lets Maven copy a set of artifacts, unpacks archives and compiles the
// set's own main class.
func (in *Installer) makeJars(ctx context.Context, path string, set JarSet) error {
	pom, err := pomOf(set)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "lockstep-mvn-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := os.WriteFile(filepath.Join(work, "pom.xml"), []byte(pom), 0o644); err != nil {
		return err
	}
	args := []string{"-q", "-B", "-f", work, "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=" + path}
	if err := run(ctx, "", "mvn", args...); err != nil {
		return err
	}
	archives, err := filepath.Glob(filepath.Join(path, "*.tar.gz"))
	if err != nil {
		return err
	}
	for _, archive := range archives {
		if err := errors.Join(run(ctx, "", "tar", "-xzf", archive, "-C", path), os.Remove(archive)); err != nil {
			return err
		}
	}
	if set.Main == "" {
		return nil
	}
	source := filepath.Join(work, set.Main)
	if err := os.WriteFile(source, []byte(catalogServerJava), 0o644); err != nil {
		return err
	}
	java, err := javaHome(set.Java)
	if err != nil {
		return err
	}
	return run(ctx, "", filepath.Join(java, "bin", "javac"), "-cp", filepath.Join(path, "*"), "-d", path, source)
}

// pomOf writes a project whose dependencies are the set.
func pomOf(set JarSet) (string, error) {
	var b strings.Builder
	b.WriteString("<project><modelVersion>4.0.0</modelVersion><groupId>lockstep</groupId><artifactId>stack</artifactId><version>1</version><packaging>pom</packaging><dependencies>\n")
	for _, artifact := range set.Artifacts {
		f := strings.Split(artifact, ":")
		if len(f) < 3 || len(f) > 5 {
			return "", fmt.Errorf("artifact %q is not group:artifact:version[:classifier[:type]]", artifact)
		}
		fmt.Fprintf(&b, "<dependency><groupId>%s</groupId><artifactId>%s</artifactId><version>%s</version>", f[0], f[1], f[2])
		if len(f) > 3 {
			fmt.Fprintf(&b, "<classifier>%s</classifier>", f[3])
		}
		if len(f) > 4 {
			fmt.Fprintf(&b, "<type>%s</type>", f[4])
		}
		if set.Alone {
			b.WriteString("<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>")
		}
		b.WriteString("</dependency>\n")
	}
	b.WriteString("</dependencies></project>\n")
	return b.String(), nil
}

// makeVenv makes a virtual environment; uv, where pip can get it, saves minutes.
func (in *Installer) makeVenv(ctx context.Context, path string, packages []string) error {
	if err := run(ctx, "", "python3", "-m", "venv", path); err != nil {
		return err
	}
	python := filepath.Join(path, "bin", "python")
	if err := run(ctx, "", python, "-m", "pip", "install", "--quiet", "uv"); err == nil {
		args := append([]string{"pip", "install", "--quiet", "--python", python}, packages...)
		err := run(ctx, "", filepath.Join(path, "bin", "uv"), args...)
		if err == nil {
			return nil
		}
		in.Log.Warn("uv cannot install, pip tries", "error", err)
	}
	return run(ctx, "", python, append([]string{"-m", "pip", "install", "--quiet"}, packages...)...)
}

// makeProgram builds a Go program. One that lies in the cache's bin, built from
// the same version, is taken as it is: building costs minutes.
func (in *Installer) makeProgram(ctx context.Context, path, pkg string) error {
	name, version, ok := strings.Cut(pkg, "@")
	if !ok {
		return fmt.Errorf("Go program %q is not package@version", pkg)
	}
	target := filepath.Join(path, filepath.Base(name))
	ready := filepath.Join(in.Cache, "bin", filepath.Base(name))
	if out, err := exec.CommandContext(ctx, "go", "version", "-m", ready).Output(); err == nil && strings.Contains(string(out), version) {
		return os.Link(ready, target)
	}
	return run(ctx, "GOBIN="+path, "go", "install", pkg)
}

// makeDebian unpacks a Debian package without installing it.
func (in *Installer) makeDebian(ctx context.Context, path, name string) error {
	work, err := os.MkdirTemp("", "lockstep-deb-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := os.Chmod(work, 0o777); err != nil { // apt downloads as its own user
		return err
	}
	download := exec.CommandContext(ctx, "apt-get", "download", "-qq", name)
	download.Dir = work
	if err := output(download); err != nil {
		if err := run(ctx, "", "apt-get", "update", "-qq"); err != nil {
			return err
		}
		download = exec.CommandContext(ctx, "apt-get", "download", "-qq", name)
		download.Dir = work
		if err := output(download); err != nil {
			return err
		}
	}
	debs, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil || len(debs) != 1 {
		return fmt.Errorf("apt-get download %s gave %d packages, %w", name, len(debs), errors.Join(err, fs.ErrNotExist))
	}
	return run(ctx, "", "dpkg-deb", "-x", debs[0], path)
}

// run executes a program with one more environment variable, or "".
func run(ctx context.Context, env, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	if env != "" {
		cmd.Env = append(os.Environ(), env)
	}
	return output(cmd)
}

// output runs a command; its error holds the end of what it wrote.
func output(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		const tail = 2000
		text := strings.TrimSpace(string(out))
		if len(text) > tail {
			text = "..." + text[len(text)-tail:]
		}
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args[:min(len(cmd.Args), 4)], " "), err, text)
	}
	return nil
}
