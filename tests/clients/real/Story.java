import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.Iterator;
import java.util.stream.Stream;

/**
 * Java's own HttpClient with its defaults: it asks to go on in HTTP/2 (Upgrade: h2c) with every request.
 * The story of story.js, and before it POST /identify: Story URL PHONE prints the story as one line of JSON.
 */
public class Story {
    static final String FAMILY = "id version emails";
    static final String IDENTIFY = "mutation Identify($input: IdentifyInput!) { identify(input: $input) "
            + "{ ... on IdentifySuccess { outcome version family { " + FAMILY + " } } ... on UserError { code message } } }";
    static final String READ = "query Family($phone: PhoneNumber!, $version: BigInt) "
            + "{ contactFamily(by: { phoneNumber: $phone }, atLeast: $version) { " + FAMILY + " } }";
    static final String PAGE = "query Page($phone: PhoneNumber!, $version: BigInt, $after: String) "
            + "{ contactFamily(by: { phoneNumber: $phone }, atLeast: $version) "
            + "{ id secondaryContacts(first: 3, after: $after) { nodes { id email } pageInfo { hasNextPage endCursor } } } }";
    static final String CHANGES =
            "subscription Changes($contact: ID!) { familyChanged(contactId: $contact) { " + FAMILY + " } }";

    static final ObjectMapper JSON = new ObjectMapper();

    final HttpClient client = HttpClient.newHttpClient();
    final URI graphql;
    final String phone;

    Story(String url, String phone) {
        this.graphql = URI.create(url);
        this.phone = phone;
    }

    public static void main(String[] arguments) throws Exception {
        System.out.println(JSON.writeValueAsString(new Story(arguments[0], arguments[1]).tell()));
        System.exit(0); // the stream is still open, and its thread would keep this process
    }

    ObjectNode tell() throws Exception {
        ObjectNode told = JSON.createObjectNode();
        identifyByRest();
        ArrayNode outcomes = told.putArray("outcomes");
        JsonNode written = null;
        for (int number = 0; number < 5; number++) {
            written = identify(number);
            outcomes.add(written.get("outcome"));
        }
        ObjectNode asked = JSON.createObjectNode().put("phone", phone);
        asked.set("version", written.get("version"));
        JsonNode family = execute(READ, asked).get("contactFamily");
        told.set("emails", family.get("emails"));

        ArrayNode pages = told.putArray("pages");
        for (String after = ""; after != null; ) {
            ObjectNode place = asked.deepCopy().put("after", after.isEmpty() ? null : after);
            JsonNode page = execute(PAGE, place).at("/contactFamily/secondaryContacts");
            ArrayNode emails = pages.addArray();
            page.get("nodes").forEach(contact -> emails.add(contact.get("email")));
            JsonNode info = page.get("pageInfo");
            after = info.get("hasNextPage").asBoolean() ? info.get("endCursor").asText() : null;
        }
        told.set("sizes", follow(family.get("id").asText()));
        return told;
    }

    /** A person of whom the story does not tell. */
    void identifyByRest() throws Exception {
        ObjectNode person = JSON.createObjectNode().put("email", "java@clients.example");
        var answer = client.send(post(graphql.resolve("/identify"), person).build(), BodyHandlers.ofString());
        if (answer.statusCode() != 200 || !answer.body().contains("java@clients.example")) {
            throw new IllegalStateException(answer.statusCode() + " " + answer.body());
        }
    }

    ArrayNode follow(String contact) throws Exception {
        ArrayNode sizes = JSON.createArrayNode();
        ObjectNode body = JSON.createObjectNode().put("query", CHANGES);
        body.putObject("variables").put("contact", contact);
        HttpRequest request = post(graphql, body).setHeader("Accept", "text/event-stream").build();
        Stream<String> lines = client.send(request, BodyHandlers.ofLines()).body();
        for (Iterator<String> line = lines.iterator(); line.hasNext(); ) {
            String text = line.next();
            if (!text.startsWith("data: {")) {
                continue;
            }
            int size = JSON.readTree(text.substring(6)).at("/data/familyChanged/emails").size();
            sizes.add(size);
            if (size == 6) {
                break;
            }
            if (sizes.size() == 1) {
                identify(5);
            }
        }
        return sizes;
    }

    JsonNode identify(int number) throws Exception {
        ObjectNode variables = JSON.createObjectNode();
        variables.putObject("input").put("email", "p" + number + "@clients.example").put("phoneNumber", phone);
        return execute(IDENTIFY, variables).get("identify");
    }

    JsonNode execute(String document, JsonNode variables) throws Exception {
        ObjectNode body = JSON.createObjectNode().put("query", document);
        body.set("variables", variables);
        var answer = client.send(post(graphql, body).build(), BodyHandlers.ofString());
        if (answer.statusCode() != 200) {
            throw new IllegalStateException(answer.statusCode() + " " + answer.body());
        }
        return JSON.readTree(answer.body()).get("data");
    }

    static HttpRequest.Builder post(URI address, JsonNode body) throws Exception {
        return HttpRequest.newBuilder(address)
                .header("Content-Type", "application/json")
                .POST(BodyPublishers.ofString(JSON.writeValueAsString(body)));
    }
}
