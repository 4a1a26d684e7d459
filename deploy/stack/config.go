// Package stack runs the real stack without docker: it installs the parts that
// deploy/stack.yaml names into a cache, starts them in order, waits until each
// answers, and stops them in reverse. Everything listens on the loopback address.
package stack

import (
	"bytes"
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

//go:embed stack.yaml
var stackYAML []byte

//go:embed *.lock
var locks embed.FS

// Config is stack.yaml.
type Config struct {
	Jars      map[string]JarSet   `yaml:"jars"`
	Python    map[string][]string `yaml:"python"` // by virtual environment: package, or -r LOCKFILE
	Go        map[string]string   `yaml:"go"`     // program -> package@version
	Debian    map[string]string   `yaml:"debian"` // unpacked, not installed: folder -> package
	Images    map[string]string   `yaml:"images"` // of compose.yaml
	FirstPort int                 `yaml:"first_port"`
	Ports     map[string]int      `yaml:"ports"`  // port name -> offset from the first port
	Memory    map[string]string   `yaml:"memory"` // part -> largest Java heap
	Access    Access              `yaml:"access"`
	Spark     SparkConfig         `yaml:"spark"`
}

// JarSet is one folder of Maven artifacts.
type JarSet struct {
	Artifacts   []string `yaml:"artifacts"`    // group:artifact:version[:classifier[:type]]
	Alone       bool     `yaml:"alone"`        // without what they depend on
	Java        int      `yaml:"java"`         // the oldest Java that runs it; 0: any
	Instead     string   `yaml:"instead"`      // the set to use where that Java is missing
	OnlyInstead bool     `yaml:"only_instead"` // not installed unless another set asks for it
	Main        string   `yaml:"main"`         // a Java source of this folder to compile against it
}

// Access are the names and passwords of a stack on the loopback address.
type Access struct {
	S3User           string `yaml:"s3_user"`
	S3Password       string `yaml:"s3_password"`
	Bucket           string `yaml:"bucket"`
	Database         string `yaml:"database"`
	DatabaseUser     string `yaml:"database_user"`
	DatabasePassword string `yaml:"database_password"`
	Admin            string `yaml:"admin"` // of Airflow and Superset
	AdminPassword    string `yaml:"admin_password"`
	Secret           string `yaml:"secret"` // signs their sessions
}

// SparkConfig divides the worker between the applications: without a cap the
// first one takes all of its cores.
type SparkConfig struct {
	WorkerCores    int    `yaml:"worker_cores"`
	WorkerMemory   string `yaml:"worker_memory"`
	ThriftCores    int    `yaml:"thrift_cores"`
	ThriftExecutor string `yaml:"thrift_executor"` // heap
	StreamCores    int    `yaml:"stream_cores"`
	StreamExecutor string `yaml:"stream_executor"` // heap
}

// LoadConfig reads the stack.yaml that is built in.
func LoadConfig() (*Config, error) {
	c := &Config{}
	d := yaml.NewDecoder(bytes.NewReader(stackYAML))
	d.KnownFields(true)
	if err := d.Decode(c); err != nil {
		return nil, fmt.Errorf("cannot read deploy/stack/stack.yaml: %w", err)
	}
	for name, packages := range c.Python {
		all, err := unlocked(packages)
		if err != nil {
			return nil, fmt.Errorf("cannot read python.%s of deploy/stack/stack.yaml: %w", name, err)
		}
		c.Python[name] = all
	}
	return c, nil
}

// unlocked puts the packages of a lock file in the place of "-r FILE".
func unlocked(packages []string) (out []string, err error) {
	for _, p := range packages {
		file, is := strings.CutPrefix(p, "-r ")
		if !is {
			out = append(out, p)
			continue
		}
		text, err := locks.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				out = append(out, line)
			}
		}
	}
	return out, nil
}

// CacheDir is where installed software lies: $LOCKSTEP_CACHE, or lockstep in the
// user's cache folder.
func CacheDir() (string, error) {
	if dir := os.Getenv("LOCKSTEP_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cannot find the cache folder: %w; name one in LOCKSTEP_CACHE", err)
	}
	return filepath.Join(dir, "lockstep"), nil
}
