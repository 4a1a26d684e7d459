package stack

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write the files that are made from stack.yaml")

// TestComposeIsCurrent: what docker users get is what stack.yaml says.
func TestComposeIsCurrent(t *testing.T) {
	for name, want := range composeFiles(t) {
		path := filepath.Join("..", filepath.FromSlash(name))
		if *update {
			if err := writeFile(path, want); err != nil {
				t.Fatal(err)
			}
		}
		have, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(have) != want {
			t.Errorf("deploy/%s is not what stack.yaml makes: go test ./deploy/... -update", name)
		}
	}
}

func composeFiles(t *testing.T) map[string]string {
	t.Helper()
	files, err := config(t).Compose()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func config(t *testing.T) *Config {
	t.Helper()
	c, err := LoadConfig()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type composeService struct {
	Image string `yaml:"image"`
	Build struct {
		Context    string            `yaml:"context"`
		Dockerfile string            `yaml:"dockerfile"`
		Args       map[string]string `yaml:"args"`
	} `yaml:"build"`
	Restart     string            `yaml:"restart"`
	Profiles    []string          `yaml:"profiles"`
	Hostname    string            `yaml:"hostname"`
	DependsOn   map[string]condit `yaml:"depends_on"`
	Environment map[string]string `yaml:"environment"`
	Command     any               `yaml:"command"`
	Ports       []string          `yaml:"ports"`
	Volumes     []string          `yaml:"volumes"`
	Healthcheck struct {
		Test     []string `yaml:"test"`
		Interval string   `yaml:"interval"`
		Timeout  string   `yaml:"timeout"`
		Retries  int      `yaml:"retries"`
	} `yaml:"healthcheck"`
}

type condit struct {
	Condition string `yaml:"condition"`
}

// TestComposeForm: no engine is asked, so the form is checked here: known keys,
// pinned images, ports on the loopback address only and each once, dependencies
// that exist and have a health check, volumes that are declared, Dockerfiles and
// what they copy that are there.
func TestComposeForm(t *testing.T) {
	var doc struct {
		Name     string                    `yaml:"name"`
		Services map[string]composeService `yaml:"services"`
		Volumes  map[string]struct{}       `yaml:"volumes"`
		X        map[string]any            `yaml:",inline"`
	}
	d := yaml.NewDecoder(strings.NewReader(composeFiles(t)["compose.yaml"]))
	d.KnownFields(true)
	if err := d.Decode(&doc); err != nil {
		t.Fatal(err)
	}
	for key := range doc.X {
		if !strings.HasPrefix(key, "x-") {
			t.Errorf("unknown key %s", key)
		}
	}
	taken := map[string]string{}
	for name, s := range doc.Services {
		checkImage(t, name, s)
		for _, p := range s.Ports {
			m := regexp.MustCompile(`^127\.0\.0\.1:(\d+):\d+$`).FindStringSubmatch(p)
			switch {
			case m == nil:
				t.Errorf("%s: port %s is not on the loopback address", name, p)
			case taken[m[1]] != "":
				t.Errorf("%s: port %s is that of %s", name, m[1], taken[m[1]])
			default:
				taken[m[1]] = name
			}
		}
		for on, c := range s.DependsOn {
			other, ok := doc.Services[on]
			if !ok {
				t.Errorf("%s depends on %s, which is no service", name, on)
			}
			if c.Condition == "service_healthy" && len(other.Healthcheck.Test) == 0 {
				t.Errorf("%s waits for %s, which has no health check", name, on)
			}
		}
		for _, v := range s.Volumes {
			from, _, _ := strings.Cut(v, ":")
			if _, ok := doc.Volumes[from]; !ok && !strings.HasPrefix(from, "./") {
				t.Errorf("%s: volume %s is not declared", name, from)
			}
		}
	}
	if len(doc.Services) < 15 {
		t.Errorf("%d services", len(doc.Services))
	}
}

// checkImage: an image is official and pinned, or built by a Dockerfile from such.
func checkImage(t *testing.T, name string, s composeService) {
	t.Helper()
	if s.Build.Dockerfile == "" {
		checkPin(t, name, s.Image)
		return
	}
	context := filepath.Join("..", s.Build.Context)
	text, err := os.ReadFile(filepath.Join(context, s.Build.Dockerfile))
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	for _, m := range regexp.MustCompile(`(?m)^ARG (\w+)`).FindAllStringSubmatch(string(text), -1) {
		value, ok := s.Build.Args[m[1]]
		if !ok {
			t.Errorf("%s: build argument %s is not given", name, m[1])
		}
		if strings.Contains(string(text), "FROM ${"+m[1]+"}") {
			checkPin(t, name, value)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^COPY ([\w./-]+)`).FindAllStringSubmatch(string(text), -1) {
		if strings.HasPrefix(m[1], "--") {
			continue
		}
		if _, err := os.Stat(filepath.Join(context, m[1])); err != nil {
			t.Errorf("%s copies what is not there: %v", name, err)
		}
	}
}

func checkPin(t *testing.T, name, image string) {
	t.Helper()
	if !regexp.MustCompile(`^[\w./-]+:v?\d[\w.-]*$|^debian:bookworm-slim$`).MatchString(image) {
		t.Errorf("%s: image %q is not pinned by version", name, image)
	}
	for _, gone := range []string{"bitnami/", "minio/minio"} {
		if strings.HasPrefix(image, gone) {
			t.Errorf("%s: %s has been withdrawn", name, image)
		}
	}
}
