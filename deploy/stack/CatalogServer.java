import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.Map;
import org.apache.iceberg.CatalogUtil;
import org.apache.iceberg.catalog.Catalog;
import org.apache.iceberg.rest.RESTCatalogAdapter;
import org.apache.iceberg.rest.RESTCatalogServlet;
import org.apache.iceberg.util.PropertyUtil;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.server.Server;

/**
 * Iceberg's REST catalog over any other catalog, on one address. The server that comes with
 * Iceberg listens on all of them. Properties are key=value arguments; host and port are ours.
 */
public class CatalogServer {
  public static void main(String[] arguments) throws Exception {
    Map<String, String> properties = new java.util.TreeMap<>();
    for (String argument : arguments) {
      int equals = argument.indexOf('=');
      properties.put(argument.substring(0, equals), argument.substring(equals + 1));
    }
    String password = System.getenv("CATALOG_JDBC_PASSWORD");
    if (password != null) {
      properties.put("jdbc.password", password);
    }
    String secret = System.getenv("CATALOG_S3_SECRET");
    if (secret != null) {
      properties.put("s3.secret-access-key", secret);
    }
    String host = PropertyUtil.propertyAsString(properties, "host", "127.0.0.1");
    int port = PropertyUtil.propertyAsInt(properties, "port", 8181);
    Catalog catalog =
        CatalogUtil.buildIcebergCatalog(properties.get("name"), properties, new org.apache.hadoop.conf.Configuration());

    ServletContextHandler context = new ServletContextHandler(ServletContextHandler.NO_SESSIONS);
    context.addServlet(new ServletHolder(new RESTCatalogServlet(new RESTCatalogAdapter(catalog))), "/*");
    Server server = new Server(new InetSocketAddress(InetAddress.getByName(host), port));
    server.setHandler(context);
    server.start();
    server.join();
  }
}
